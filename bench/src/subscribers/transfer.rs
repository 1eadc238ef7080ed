//! Between a client's socket and the client: reads, writes, and TLS in between.
//!
//! Not here: who is ready (`worker`). Invariant: the clock is read once for what a read brought,
//! and bytes of a frame in pieces stand before those of the next read.

use std::io::{ErrorKind, Read, Write};

use super::client::{Client, Common, Ended, Stage};
use super::worker::{BUFFER_BYTES, Worker};
use crate::clock::now_ns;

impl Worker {
    /// Reads what there is; `closed`: and then the end of it.
    pub(super) fn read(&mut self, number: usize, closed: bool) -> Result<(), Ended> {
        let client = &mut self.clients[number];
        if client.tls.is_some() {
            return self.read_sealed(number, closed);
        }
        loop {
            let kept = client.rest.len();
            self.buffer[..kept].copy_from_slice(&client.rest);
            let stream = client.stream.as_mut().expect("it is not away");
            let count = match stream.read(&mut self.buffer[kept..]) {
                Ok(0) => return Err(Ended("the server closed the connection".into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Ended(error.to_string())),
            };
            take(client, &self.buffer[..kept + count], &mut self.common)?;
            // A read that did not fill the buffer has emptied the socket; what comes now is told.
            if kept + count < self.buffer.len() && !closed {
                return Ok(());
            }
        }
    }

    fn read_sealed(&mut self, number: usize, closed: bool) -> Result<(), Ended> {
        let client = &mut self.clients[number];
        loop {
            let stream = client.stream.as_mut().expect("it is not away");
            let count = match stream.read(&mut self.sealed) {
                Ok(0) => return Err(Ended("the server closed the connection".into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Ended(error.to_string())),
            };
            let mut sealed = &self.sealed[..count];
            while !sealed.is_empty() {
                let tls = client.tls.as_mut().expect("the caller has looked");
                tls.read_tls(&mut sealed).map_err(|error| Ended(error.to_string()))?;
                tls.process_new_packets().map_err(|error| Ended(error.to_string()))?;
                open_sealed(client, &mut self.buffer, &mut self.common)?;
            }
            if count < self.sealed.len() && !closed {
                return Ok(());
            }
        }
    }

    pub(super) fn write(&mut self, number: usize) -> Result<(), Ended> {
        let client = &mut self.clients[number];
        let Some(stream) = client.stream.as_mut() else { return Ok(()) };
        let blocked = |error: std::io::Error| match error.kind() {
            ErrorKind::WouldBlock => Ok(()),
            _ => Err(Ended(error.to_string())),
        };
        if let Some(tls) = &mut client.tls {
            if !client.output.is_empty() {
                let taken = tls.writer().write_all(&client.output);
                taken.map_err(|error| Ended(error.to_string()))?;
                client.output = Vec::new();
            }
            while tls.wants_write() {
                if let Err(error) = tls.write_tls(stream) {
                    return blocked(error);
                }
            }
            return Ok(());
        }
        while !client.output.is_empty() && client.stage != Stage::Connecting {
            match stream.write(&client.output) {
                Ok(count) => drop(client.output.drain(..count)),
                Err(error) => return blocked(error),
            }
        }
        client.output = Vec::new();
        Ok(())
    }
}

/// What the session has opened, in pieces of the buffer.
fn open_sealed(client: &mut Client, buffer: &mut [u8], common: &mut Common) -> Result<(), Ended> {
    loop {
        let kept = client.rest.len();
        buffer[..kept].copy_from_slice(&client.rest);
        let tls = client.tls.as_mut().expect("the caller has looked");
        match tls.reader().read(&mut buffer[kept..]) {
            Ok(0) => return Err(Ended("the server closed the session".into())),
            Ok(count) => take(client, &buffer[..kept + count], common)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(Ended(error.to_string())),
        }
    }
}

/// Hands bytes to a client, with one reading of the clock, and keeps what is not whole.
#[inline]
fn take(client: &mut Client, bytes: &[u8], common: &mut Common) -> Result<(), Ended> {
    let now = now_ns();
    common.recorder.read_at(now);
    let used = client.take(bytes, now, common)?;
    if used == 0 && bytes.len() == BUFFER_BYTES {
        return Err(Ended(format!("a frame is longer than {BUFFER_BYTES} bytes")));
    }
    client.rest.clear();
    if used < bytes.len() {
        client.rest.extend_from_slice(&bytes[used..]);
    }
    Ok(())
}
