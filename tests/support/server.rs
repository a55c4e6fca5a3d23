//! Starts the real binary and makes sure that it ends.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustls::ClientConfig;

use super::lines::Lines;
use super::over::{self, Over};
use super::probe::{Held, Probe};
use super::process_tree::{self, Guard, Guarded};
use super::raw::{Connection, Response};
use super::{DEADLINE, apps, python, tls};

/// How a server is to be started.
pub struct Pyserve {
    command: Command,
    probe: Probe,
    stdout: Stdio,
    stderr: Stdio,
}

/// A running server. Dropping kills it.
pub struct Server {
    child: Child,
    guard: Guard,
    port: u16,
    over: Over,
    /// What it wrote to stderr.
    pub stderr: Lines,
    /// What it wrote to stdout.
    pub stdout: Lines,
    /// What its applications tell.
    pub probe: Probe,
}

/// A server that has ended by itself.
pub struct Ended {
    /// Exit code; 128+n for signal n.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Pyserve {
    /// The binary under test with an environment that settles nothing.
    pub fn bare() -> Self {
        Self::binary(Path::new(env!("CARGO_BIN_EXE_pyserve")))
    }

    /// Like [`Pyserve::bare`], for a copy of the binary.
    pub fn binary(binary: &Path) -> Self {
        let probe = Probe::new();
        let mut command = Command::new(binary);
        command
            .stdin(Stdio::null())
            .env("PROBE", probe.dir())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let foreign = ["PORT", "WEB_CONCURRENCY", "VIRTUAL_ENV", "RUST_LOG"];
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if foreign.contains(&&*text) || text.starts_with("PYSERVE_") || is_python(&text) {
                command.env_remove(&name);
            }
        }
        Self {
            command,
            probe,
            stdout: Stdio::piped(),
            stderr: Stdio::piped(),
        }
    }

    /// One small worker on a free port, with logs that are easy to search. Set by the
    /// environment, so that a test's own flags win.
    pub fn new() -> Self {
        Self::bare().quick()
    }

    /// The settings of [`Pyserve::new`] for any binary.
    pub fn quick(self) -> Self {
        let control = self.path("control");
        self.env("PYSERVE_BIND", "127.0.0.1:0")
            .env("PYSERVE_CONTROL", control)
            .env("PYSERVE_LOG_FORMAT", "pretty")
            .env("PYSERVE_ACCESS_LOG", "off")
            .env("PYSERVE_WORKERS", "1")
            .env("PYSERVE_FRONT_THREADS", "1")
            .env("PYSERVE_PYTHON", python::default())
    }

    /// An application of `tests/apps` under the settings of [`Pyserve::new`].
    pub fn app(name: &str) -> Self {
        Self::new().args(["--app", name, "--chdir"]).args([apps()])
    }

    /// With an admin listener, for [`Server::metric`] and [`Server::status`].
    pub fn watched(self) -> Self {
        let admin = format!("unix:{}", self.path("admin").display());
        self.env("PYSERVE_ADMIN", admin)
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// A flag with a path.
    pub fn arg_file(self, flag: &str, path: &Path) -> Self {
        self.args([Path::new(flag), path])
    }

    /// With a second listener with TLS, and a certificate of the tests' authority for `localhost`.
    pub fn with_tls(self) -> Self {
        self.args(["--bind", "127.0.0.1:0"]).with_tls_beside()
    }

    /// With a listener with TLS besides those that the arguments have, or the one of
    /// [`Pyserve::with_tls`].
    pub fn with_tls_beside(self) -> Self {
        static ISSUED: LazyLock<tls::Issued> =
            LazyLock::new(|| tls::authority().issue(&["localhost"]));
        if !self.command.get_args().any(|arg| arg == "--bind") {
            return self.with_tls();
        }
        self.args(["--bind", "https://127.0.0.1:0", "--tls-cert"])
            .args([&ISSUED.cert, Path::new("--tls-key"), &ISSUED.key])
    }

    /// One more environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// An environment variable less.
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// The directory in which the server is started.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// In a process group of its own, as a shell starts a job. The kernel stops no process of an orphaned
    /// group by SIGTSTP, and that of the tests may be one.
    pub fn in_own_group(mut self) -> Self {
        std::os::unix::process::CommandExt::process_group(&mut self.command, 0);
        self
    }

    /// Where standard input comes from, instead of nowhere.
    pub fn stdin_from(mut self, input: impl Into<Stdio>) -> Self {
        self.command.stdin(input);
        self
    }

    /// Where standard output goes, instead of to [`Server::stdout`].
    pub fn stdout_to(mut self, output: impl Into<Stdio>) -> Self {
        self.stdout = output.into();
        self
    }

    /// Where standard error goes, instead of to [`Server::stderr`].
    pub fn stderr_to(mut self, output: impl Into<Stdio>) -> Self {
        self.stderr = output.into();
        self
    }

    /// With a limit of so many descriptors (`ulimit -n`).
    pub fn with_descriptors(self, most: u32) -> Self {
        self.with_limit(&format!("-n {most}"))
    }

    /// With a limit of so many processes and threads of its user (`ulimit -u`).
    pub fn with_processes(self, most: u32) -> Self {
        self.with_limit(&format!("-u {most}"))
    }

    /// With a limit of so many KiB for each file that it writes (`ulimit -f`).
    pub fn with_file_size(self, most: u32) -> Self {
        self.with_limit(&format!("-f {most}"))
    }

    fn with_limit(mut self, limit: &str) -> Self {
        // The shell of Debian has no `ulimit -u`.
        let mut shell = Command::new("bash");
        let script = format!(r#"ulimit {limit} && exec "$0" "$@""#);
        shell.arg("-c").arg(script).arg(self.command.get_program());
        shell.args(self.command.get_args()).stdin(Stdio::null());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            shell.current_dir(dir);
        }
        self.command = shell;
        self
    }

    /// In a session of its own whose terminal this is.
    pub fn with_terminal(mut self, terminal: File) -> Self {
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").arg(self.command.get_program());
        setsid.args(self.command.get_args()).stdin(terminal);
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => setsid.env(name, value),
                None => setsid.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            setsid.current_dir(dir);
        }
        self.command = setsid;
        self
    }

    /// A path in the directory that goes away with the server.
    pub fn path(&self, name: &str) -> PathBuf {
        self.probe.path(name)
    }

    /// Starts and waits until its addresses are bound.
    pub fn listening(self) -> Server {
        let over = over::clients();
        let mut server = match over {
            Over::Tcp => self.spawn(),
            Over::Tls => self.with_tls_beside().spawn(),
        };
        server.over = over;
        let line = server.stderr.wait_for("starting on ");
        if let Some((_, address)) = line.split_once("starting on http://127.0.0.1:") {
            let digits = address.split(|char: char| !char.is_ascii_digit());
            let port = digits.into_iter().next().unwrap_or_default();
            server.port = port.parse().expect("a port number");
        }
        server
    }

    /// Starts and waits until the application can be asked.
    pub fn ready(self) -> Server {
        let server = self.listening();
        server.stderr.wait_for("ready in ");
        server
    }

    /// Starts, and waits for nothing.
    pub fn started(self) -> Server {
        self.spawn()
    }

    /// Starts and waits until it has ended by itself.
    pub fn run(self) -> Ended {
        let mut server = self.spawn();
        let code = server.wait_exit();
        Ended {
            code,
            stdout: server.stdout.to_end(),
            stderr: server.stderr.to_end(),
        }
    }

    fn spawn(mut self) -> Server {
        let mut child = self
            .command
            .stdout(self.stdout)
            .stderr(self.stderr)
            .spawn()
            .expect("the binary starts");
        let stdout = child
            .stdout
            .take()
            .map_or_else(Lines::none, Lines::read_from);
        let stderr = child
            .stderr
            .take()
            .map_or_else(Lines::none, Lines::read_from);
        Server {
            guard: Guard::over(&child, Guarded::Child, self.probe.dir()),
            child,
            port: 0,
            over: Over::Tcp,
            stderr,
            stdout,
            probe: self.probe,
        }
    }
}

impl Server {
    /// The port of the first TCP listener.
    pub fn port(&self) -> u16 {
        assert_ne!(self.port, 0, "the first listener is no TCP socket");
        self.port
    }

    /// The port of the first listener with TLS.
    pub fn tls_port(&self) -> u16 {
        let line = self.stderr.wait_for("starting on https://127.0.0.1:");
        let (_, port) = line.rsplit_once(':').expect("a port");
        port.trim_end_matches(|char: char| !char.is_ascii_digit())
            .parse()
            .expect("a port number")
    }

    /// A new connection to [`Server::tls_port`], without its handshake.
    pub fn connect_tls_port(&self) -> Connection {
        Connection::tcp(self.tls_port())
    }

    /// A new connection to [`Server::tls_port`] inside a session for `localhost`, with a
    /// certificate of the tests' authority; HTTP/1.1.
    pub fn connect_tls(&self) -> Connection {
        let client = tls::authority().client(&["http/1.1"]);
        let secured = self.connect_tls_port().secured(client, "localhost");
        secured.expect("a handshake")
    }

    /// The server with clients that use TLS.
    pub fn over_tls(mut self) -> Self {
        self.over = Over::Tls;
        self
    }

    /// The port for the clients of the test.
    pub fn client_port(&self) -> u16 {
        match self.over {
            Over::Tcp => self.port(),
            Over::Tls => self.tls_port(),
        }
    }

    /// The settings of TLS for the clients of the test, if they use it; HTTP/1.1.
    pub fn client_settings(&self) -> Option<Arc<ClientConfig>> {
        (self.over == Over::Tls).then(|| tls::authority().client(&["http/1.1"]))
    }

    /// A new connection to [`Server::port`], or inside a session where the test's clients use TLS.
    pub fn connect(&self) -> Connection {
        match self.over {
            Over::Tcp => Connection::tcp(self.port()),
            Over::Tls => self.connect_tls(),
        }
    }

    /// One response to one request on a connection of its own.
    pub fn exchange(&self, request: &str) -> Response {
        self.connect().exchange(request)
    }

    /// The response to a plain GET on a connection of its own.
    pub fn get(&self, target: &str) -> Response {
        self.exchange(&get(target))
    }

    /// A GET that the application holds: the connection that waits for its response, and what
    /// lets the application go on.
    pub fn hold(&self, target: &str) -> (Connection, Held) {
        let mut connection = self.connect();
        connection.send(get(target));
        (connection, self.probe.held(target))
    }

    /// What the admin listener answers; see [`Pyserve::watched`].
    pub fn admin(&self, target: &str) -> Response {
        Connection::unix(&self.probe.path("admin")).exchange(get(target))
    }

    /// The value of a sample, named as the page of metrics does, with its labels.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = self.admin("/-/metrics").text();
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.parse().ok()
    }

    /// Waits until a sample has this value.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, value: f64) {
        let began = std::time::Instant::now();
        loop {
            let seen = self.metric(name);
            if seen == Some(value) {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "{name} is {seen:?}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// What `/-/status` tells.
    pub fn status(&self) -> serde_json::Value {
        self.admin("/-/status").json()
    }

    /// Process id of the server.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Memory of its own that the server has touched, in bytes.
    pub fn anonymous_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let number = line.and_then(|line| line.split_ascii_whitespace().nth(1));
        number.unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Sends a signal to the server.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server is there");
    }

    /// Waits for the end; the exit code, 128+n for signal n.
    pub fn wait_exit(&mut self) -> i32 {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).expect("a pidfd");
        let limit = Timespec {
            tv_sec: DEADLINE.as_secs() as i64,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let ended = poll(&mut fds, Some(&limit)).expect("poll works");
        assert_eq!(ended, 1, "still running: {:#?}", self.stderr.so_far());
        let status = self.child.wait().expect("it has ended");
        status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .expect("exited or killed")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.guard.dismiss();
        // The child may be a shell, which its server would outlive.
        process_tree::kill(&process_tree::descendants(self.pid()));
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let stderr = self.stderr.so_far().join("\n");
            eprintln!("--- the server's stderr:\n{stderr}\n---");
        }
    }
}

/// The text of a GET request for `target`.
pub fn get(target: &str) -> String {
    request("GET", target, "")
}

/// The text of a request without a body. `lines` are more lines of its head, each with its end.
pub fn request(method: &str, target: &str, lines: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// The text of a POST request with a body.
pub fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn is_python(variable: &str) -> bool {
    variable.starts_with("PYTHON") && variable != "PYTHONDONTWRITEBYTECODE"
}
