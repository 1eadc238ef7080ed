//! Sockets and TLS sessions of subscribers.
//!
//! Invariant: a socket that is dropped is reset, so that no port waits for the next round.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

/// Connections from one source address; the ports that Linux gives out by itself are some more.
const PER_ADDRESS: u64 = 20_000;

/// Begins to connect a client.
pub(super) fn open(server: SocketAddr, client: u64) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    let address = client / PER_ADDRESS;
    if address > 0 && server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        bind_without_port(&socket, u8::try_from(address + 1).unwrap_or(u8::MAX))?;
    }
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Binds to 127.0.0.`last`; the port is chosen when the other end is known.
fn bind_without_port(socket: &Socket, last: u8) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = u32::try_from(size_of_val(&on)).expect("a few bytes");
    // SAFETY: the option is an integer that lives for the length of the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())
}

/// What all sessions share: one cheap cipher, no resumption.
///
/// # Errors
/// A certificate that is none.
pub fn tls(certificate: &str) -> Result<Arc<ClientConfig>, String> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(certificate.as_bytes());
    let der = der.map_err(|error| format!("the certificate: {error}"))?;
    roots.add(der).map_err(|error| format!("the certificate: {error}"))?;
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A session with `localhost`.
#[must_use]
pub fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = "localhost".try_into().expect("a constant");
    ClientConnection::new(Arc::clone(config), name).expect("the settings are complete")
}
