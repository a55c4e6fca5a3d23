//! TLS clients for `benches/tls.py`: full or resumed handshakes one after the other on each thread, or
//! connections that stay idle.
//!
//! `cargo build --release --example handshakes`, then `handshakes full|resumed --address ADDRESS --ca FILE
//! --seconds N [--threads N] [--group x25519|x25519mlkem768]`, which prints the number of handshakes,
//! or `handshakes idle --connections N …`, which prints `ready` and ends with standard input. Each
//! handshake of `full` and `resumed` is followed by one request, whose response also brings the tickets.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a program of its own, which blocks and prints"
)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, version};

const REQUEST: &[u8] = b"GET /hello.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(10);

struct Plan {
    mode: String,
    address: String,
    ca: String,
    seconds: f64,
    threads: usize,
    connections: usize,
    group: String,
}

fn main() -> ExitCode {
    let ran = plan().and_then(|plan| match &*plan.mode {
        "idle" => idle(&plan),
        _ => repeated(&plan),
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handshakes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan() -> io::Result<Plan> {
    let mut words = std::env::args().skip(1);
    let mut plan = Plan {
        mode: words.next().unwrap_or_default(),
        address: String::new(),
        ca: String::new(),
        seconds: 5.0,
        threads: 1,
        connections: 1000,
        group: "x25519".to_owned(),
    };
    while let Some(word) = words.next() {
        let value = words.next().ok_or(io::ErrorKind::InvalidInput)?;
        let number = || value.parse::<f64>().map_err(io::Error::other);
        match &*word {
            "--address" => plan.address = value,
            "--ca" => plan.ca = value,
            "--group" => plan.group = value,
            "--seconds" => plan.seconds = number()?,
            "--threads" => plan.threads = number()? as usize,
            "--connections" => plan.connections = number()? as usize,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(plan)
}

fn settings(plan: &Plan) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(&plan.ca).map_err(io::Error::other)?;
    roots.add(root).map_err(io::Error::other)?;
    let mut provider = default_provider();
    provider.kx_groups = vec![match &*plan.group {
        "x25519mlkem768" => kx_group::X25519MLKEM768,
        _ => kx_group::X25519,
    }];
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder
        .with_protocol_versions(&[&version::TLS13])
        .map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if plan.mode != "resumed" {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

fn connect(
    plan: &Plan,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut tcp = TcpStream::connect(&plan.address)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(session, tcp))
}

fn repeated(plan: &Plan) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(plan.seconds);
    let run = || -> io::Result<(u64, u64)> {
        let config = settings(plan)?;
        let (mut count, mut resumed) = (0, 0);
        while Instant::now() < until {
            let mut stream = connect(plan, &config)?;
            count += 1;
            resumed += u64::from(stream.conn.handshake_kind() == Some(HandshakeKind::Resumed));
            stream.write_all(REQUEST)?;
            let mut response = Vec::new();
            stream.read_to_end(&mut response)?;
            if !response.starts_with(b"HTTP/1.1 200 ") {
                return Err(io::Error::other("a wrong response"));
            }
        }
        Ok((count, resumed))
    };
    let (mut count, mut resumed) = (0, 0);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            let ran = thread.join().unwrap_or(Err(io::ErrorKind::Other.into()))?;
            count += ran.0;
            resumed += ran.1;
        }
        io::Result::Ok(())
    })?;
    println!("{count} {resumed}");
    Ok(())
}

fn idle(plan: &Plan) -> io::Result<()> {
    let config = settings(plan)?;
    let all = (0..plan.connections).map(|_| {
        let mut stream = connect(plan, &config)?;
        // One request, as a browser that stays.
        stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut response = [0; 4096];
        let length = stream.read(&mut response)?;
        match response[..length].starts_with(b"HTTP/1.1 200 ") {
            true => Ok(stream),
            false => Err(io::Error::other("a wrong response")),
        }
    });
    let _open = all.collect::<io::Result<Vec<_>>>()?;
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
