//! Starts that are refused: the exit code, the cause, and the command that cures it.

use std::net::TcpListener;
use std::process::Command;

use crate::support::{Server, fanfare};

/// Runs to the end; exit code and standard error.
fn refused(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The program in a shell that first runs `before`, for limits.
fn limited(before: &str) -> (i32, String) {
    let program = env!("CARGO_BIN_EXE_fanfare");
    let flags = "serve --listen 127.0.0.1:0 --source tcp://127.0.0.1:0";
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before} && exec {program} {flags}")]);
    refused(shell)
}

#[test]
fn a_taken_port_names_the_command_that_finds_its_owner() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::start("");
    let source = server.sources[0].strip_prefix("tcp://").unwrap();
    for (listen, source, port) in [
        (
            plain.local_addr().unwrap().to_string(),
            "127.0.0.1:0",
            plain.local_addr().unwrap().port(),
        ),
        (server.listen.to_string(), "127.0.0.1:0", server.listen.port()),
        ("127.0.0.1:0".into(), source, source.rsplit(':').next().unwrap().parse().unwrap()),
    ] {
        let flags = format!("serve --listen {listen} --source tcp://{source}");
        let (code, errors) = refused(fanfare(&flags));
        assert_eq!(code, 1, "{errors}");
        let cure = format!("ss -lptn 'sport = :{port}'");
        assert!(errors.contains("in use") && errors.contains(&cure), "{errors}");
    }
}

#[test]
fn too_few_descriptors_name_the_limit() {
    let (code, errors) = limited("ulimit -n 64");
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("64 file descriptors are allowed"), "{errors}");
    assert!(errors.contains("ulimit -n 1048576"), "{errors}");
}

#[test]
fn too_little_locked_memory_names_the_limit() {
    let (code, errors) = limited("ulimit -l 64");
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("locked memory") && errors.contains("ulimit -l "), "{errors}");
}

#[test]
fn settings_that_cannot_be_meant_are_refused_with_2() {
    let (code, errors) = refused(fanfare("serve --listen 127.0.0.1:0"));
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("no source of events"), "{errors}");

    let flags = "serve --listen 127.0.0.1:0 --source tcp://127.0.0.1:0 --cores 4095 --log-bytes 1";
    let (code, errors) = refused(fanfare(flags));
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("4095") && errors.contains("--log-bytes"), "{errors}");

    let (code, errors) = refused(fanfare("serve --source replay:/absent/capture.gz"));
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("/absent/capture.gz"), "{errors}");
}
