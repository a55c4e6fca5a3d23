//! A generator of HTTP/1.1 load at a fixed rate, whose latencies have no coordinated omission.
//!
//! `cargo build --release --example paced`, then `paced --rate N --seconds N [--connections N] [--body BYTES] ADDRESS WEIGHT=PATH...`.
//! `compare.py` runs it.
//!
//! Request number n is due at the start + n / rate, whatever happened to those before it. Each connection is a
//! thread: it takes the next number, waits until it is due, sends the request and reads the response. Where all
//! connections are busy, the request is sent late, but its latency counts from the time it was due. A
//! generator that waits for a slow response before it plans the next request leaves out the requests that
//! would have met the delay (Gil Tene, wrk2). Several paths are mixed by weight, in the same order in each run.
//! Prints one JSON object. Knows HTTP/1.1 with `Content-Length` only.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a program of its own, which blocks and prints"
)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A response later than this is an error, and so is a request that could not be sent by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time to start all threads before the first request is due.
const LEAD: Duration = Duration::from_millis(50);

const USAGE: &str =
    "usage: paced --rate N --seconds N [--connections N] [--body BYTES] ADDRESS WEIGHT=PATH...";

struct Plan {
    address: SocketAddr,
    rate: f64,
    total: u64,
    connections: usize,
    targets: Vec<Target>,
    weights: u64,
    start: Instant,
    next: AtomicU64,
}

struct Target {
    path: String,
    weight: u64,
    request: Vec<u8>,
}

/// Latencies in microseconds and errors of one target.
#[derive(Clone, Default)]
struct Seen {
    micros: Vec<u64>,
    failed: u64,
    /// The first error of the connection that had one.
    error: Option<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match parse(&arguments) {
        Ok(plan) => {
            let seen = run(&Arc::new(plan));
            println!("{seen}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("paced: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: &[String]) -> Result<Plan, String> {
    let (mut rate, mut seconds, mut connections, mut body) = (0.0, 0.0, 32, None);
    let mut places = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || {
            let text = rest.next().ok_or(format!("{argument} needs a number"))?;
            text.parse::<f64>()
                .ok()
                .filter(|number| number.is_finite() && *number > 0.0)
                .ok_or(format!("{argument} {text}: not a number above 0"))
        };
        match argument.as_str() {
            "--rate" => rate = number()?,
            "--seconds" => seconds = number()?,
            "--connections" => connections = number()? as usize,
            "--body" => body = Some(number()? as usize),
            flag if flag.starts_with("--") => return Err(format!("unknown option {flag}")),
            place => places.push(place),
        }
    }
    let [address, targets @ ..] = &places[..] else {
        return Err("no address".to_owned());
    };
    if rate == 0.0 || seconds == 0.0 || targets.is_empty() {
        return Err("rate, seconds and a path are required".to_owned());
    }
    let targets = targets
        .iter()
        .map(|target| Target::parse(target, address, body))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Plan {
        address: address
            .parse()
            .map_err(|error| format!("{address}: {error}"))?,
        rate,
        total: (rate * seconds) as u64,
        connections,
        weights: targets.iter().map(|target| target.weight).sum(),
        targets,
        start: Instant::now() + LEAD,
        next: AtomicU64::new(0),
    })
}

impl Target {
    fn parse(text: &str, host: &str, body: Option<usize>) -> Result<Self, String> {
        let (weight, path) = text
            .split_once('=')
            .ok_or(format!("{text}: not WEIGHT=PATH"))?;
        let weight = weight
            .parse()
            .ok()
            .filter(|weight| *weight > 0)
            .ok_or(format!("{text}: the weight is no whole number above 0"))?;
        let request = match body {
            None => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
            Some(length) => {
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
                );
                let mut bytes = head.into_bytes();
                bytes.resize(bytes.len() + length, b'x');
                bytes
            }
        };
        Ok(Self {
            path: path.to_owned(),
            weight,
            request,
        })
    }
}

impl Plan {
    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// The target of request `number`: pseudo-random by weight, the same in every run.
    fn target(&self, number: u64) -> usize {
        let mut place = mixed(number) % self.weights;
        self.targets
            .iter()
            .position(|target| {
                let here = place < target.weight;
                place = place.wrapping_sub(target.weight);
                here
            })
            .expect("the place is below the sum of the weights")
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
fn mixed(number: u64) -> u64 {
    let mut word = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Sends the whole plan; the report as JSON.
fn run(plan: &Arc<Plan>) -> String {
    let clients: Vec<_> = (0..plan.connections)
        .map(|_| {
            let plan = Arc::clone(plan);
            thread::spawn(move || client(&plan))
        })
        .collect();
    let mut all = vec![Seen::default(); plan.targets.len()];
    for client in clients {
        for (sum, seen) in all.iter_mut().zip(client.join().expect("no client panics")) {
            sum.micros.extend(seen.micros);
            sum.failed += seen.failed;
            sum.error = sum.error.take().or(seen.error);
        }
    }
    let took = plan.start.elapsed().as_secs_f64();
    let answered: usize = all.iter().map(|seen| seen.micros.len()).sum();
    let targets: Vec<String> = plan
        .targets
        .iter()
        .zip(&mut all)
        .map(|(target, seen)| seen.report(&target.path))
        .collect();
    format!(
        "{{\"rate\": {}, \"answered_per_s\": {:.1}, \"targets\": [{}]}}",
        plan.rate,
        answered as f64 / took,
        targets.join(", ")
    )
}

/// One connection, until no request is left.
fn client(plan: &Plan) -> Vec<Seen> {
    // The default of 50 µs would be a part of each latency.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut seen = vec![Seen::default(); plan.targets.len()];
    let mut connection = Connection::new(plan.address);
    loop {
        let number = plan.next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.total {
            return seen;
        }
        let due = plan.due(number);
        let which = plan.target(number);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let outcome = if due.elapsed() > PATIENCE {
            Err(invalid("no connection was free in time"))
        } else {
            connection.exchange(&plan.targets[which].request)
        };
        match outcome {
            Ok(()) => seen[which].micros.push(due.elapsed().as_micros() as u64),
            Err(error) => {
                seen[which].failed += 1;
                seen[which].error.get_or_insert(error.to_string());
            }
        }
    }
}

impl Seen {
    fn report(&mut self, path: &str) -> String {
        self.micros.sort_unstable();
        // The nearest rank, in milliseconds; nothing where too few were answered to have one beyond it.
        let at = |share: f64, least: usize| {
            let count = self.micros.len();
            let rank = (share * count as f64).ceil() as usize;
            match self.micros.get(rank.saturating_sub(1)) {
                Some(micros) if count >= least => format!("{:.3}", *micros as f64 / 1000.0),
                _ => "null".to_owned(),
            }
        };
        format!(
            "{{\"path\": {path:?}, \"answered\": {}, \"failed\": {}, \"error\": {}, \"p50_ms\": {}, \"p99_ms\": {}, \"p999_ms\": {}, \"max_ms\": {}}}",
            self.micros.len(),
            self.failed,
            self.error
                .as_ref()
                .map_or("null".to_owned(), |error| format!("{error:?}")),
            at(0.5, 1),
            at(0.99, 100),
            at(0.999, 1000),
            at(1.0, 1),
        )
    }
}

/// A connection that is opened again after an error or `Connection: close`.
struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: connect(address).ok(),
            buffer: vec![0; 64 << 10],
        }
    }

    /// One request and its response, which has to be a complete 2xx or 3xx.
    fn exchange(&mut self, request: &[u8]) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address)?,
        };
        stream.write_all(request)?;
        let head = read_response(&mut stream, &mut self.buffer)?;
        if !head.closes {
            self.stream = Some(stream);
        }
        if (200..400).contains(&head.status) {
            Ok(())
        } else {
            Err(io::Error::other(format!("status {}", head.status)))
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

struct Head {
    status: u16,
    length: usize,
    closes: bool,
}

/// Reads one response to its end.
fn read_response(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Head> {
    let mut filled = 0;
    let (head, used) = loop {
        if filled == buffer.len() {
            return Err(invalid("head is too long"));
        }
        filled += read_some(stream, &mut buffer[filled..])?;
        if let Some(end) = buffer[..filled]
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
        {
            let text = std::str::from_utf8(&buffer[..end]).map_err(|_| invalid("head"))?;
            break (parse_head(text)?, end + 4);
        }
    };
    let mut left = head
        .length
        .checked_sub(filled - used)
        .ok_or(invalid("bytes behind the response"))?;
    while left > 0 {
        let room = left.min(buffer.len());
        left -= read_some(stream, &mut buffer[..room])?;
    }
    Ok(head)
}

fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match stream.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(count),
    }
}

fn parse_head(text: &str) -> io::Result<Head> {
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
        .ok_or(invalid("status line"))?;
    let mut head = Head {
        status,
        length: 0,
        closes: false,
    };
    let mut framed = matches!(status, 204 | 304);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.length = value.parse().map_err(|_| invalid("Content-Length"))?;
            framed = true;
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    if framed {
        Ok(head)
    } else {
        Err(invalid("no Content-Length"))
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(400);

    /// A server of one connection, which answers request number n with what `answer` gives.
    fn served(answer: impl Fn(usize) -> String + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let mut number = 0;
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer) {
                    if stream.write_all(answer(number).as_bytes()).is_err() {
                        break;
                    }
                    number += 1;
                }
            }
        });
        address
    }

    fn seen(address: &str, arguments: &str) -> Vec<Seen> {
        let arguments: Vec<String> = arguments
            .replace("ADDRESS", address)
            .split(' ')
            .map(str::to_owned)
            .collect();
        client(&parse(&arguments).unwrap())
    }

    fn ok() -> String {
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
    }

    #[test]
    fn a_pause_of_the_server_counts_for_each_request_that_was_due_in_it() {
        let address = served(|number| {
            if number == 20 {
                thread::sleep(PAUSE);
            }
            ok()
        });
        let seen = seen(&address, "--rate 200 --seconds 1 ADDRESS 1=/");
        let late = seen[0].micros.iter().filter(|micros| **micros > 100_000);
        // 300 ms of the pause at 200 requests/s; a generator that waits would have counted one.
        assert!(late.count() >= 50, "{:?}", seen[0].micros);
        assert_eq!((seen[0].micros.len(), seen[0].failed), (200, 0));
    }

    #[test]
    fn responses_with_an_error_status_and_broken_ones_have_no_latency() {
        let address = served(|number| match number {
            3 => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(),
            5 => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
            7 => "nonsense\r\n\r\n".to_owned(),
            _ => ok(),
        });
        let seen = seen(&address, "--rate 1000 --seconds 0.02 ADDRESS 1=/");
        assert_eq!((seen[0].micros.len(), seen[0].failed), (17, 3));
        assert_eq!(seen[0].error.as_deref(), Some("status 503"));
    }

    #[test]
    fn paths_are_mixed_by_weight() {
        let address = served(|_| ok());
        let seen = seen(
            &address,
            "--rate 10000 --seconds 0.1 ADDRESS 9=/short 1=/long",
        );
        let [short, long] = &seen[..] else {
            panic!("two targets")
        };
        assert_eq!(short.micros.len() + long.micros.len(), 1000);
        // Four standard deviations around 100.
        assert!(
            (62..=138).contains(&long.micros.len()),
            "{}",
            long.micros.len()
        );
    }

    #[test]
    fn percentiles_are_the_nearest_rank_and_absent_where_too_few_were_answered() {
        let mut seen = Seen {
            micros: (1..=200).rev().map(|number| number * 1000).collect(),
            ..Seen::default()
        };
        let report = seen.report("/");
        for figure in [
            "\"p50_ms\": 100.000",
            "\"p99_ms\": 198.000",
            "\"p999_ms\": null",
            "\"max_ms\": 200.000",
        ] {
            assert!(report.contains(figure), "{report}");
        }
    }
}
