//! The `pyserve` command: parse, resolve, run, map the result to an exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::{self, Verb};
use crate::config::layers::Layer;
use crate::config::reach::{self, Unreachable};
use crate::config::{
    self, AppSettings, CommandLine, Config, ConfigError, HostFacts, ListenAddress, foreign, native,
};
use crate::explain;
use crate::front::accept::listener::{BindError, Listener, SocketFileSettings};
use crate::front::body::encoder::Encoders;
use crate::front::sendfile::file_pool::FilePool;
use crate::front::tls::TlsError;
use crate::gunicorn_link;
use crate::init;
use crate::manual;
use crate::observe::codes;
use crate::observe::diagnostics::{self, WriteOut, say};
use crate::observe::log_files::{self, LogFileError};
use crate::observe::logs;
use crate::os::descriptors;
use crate::os::identity::{self, DropError};
use crate::os::key_reader;
use crate::os::memory;
use crate::os::own_program;
use crate::os::pidfile::PidFile;
use crate::os::process;
use crate::os::scheduling;
use crate::os::service_manager::{PassedSocket, ServiceManager};
use crate::os::signals;
use crate::os::standard::Standard;
use crate::os::temporary;
use crate::prestart;
use crate::project;
use crate::reference;
use crate::report;
use crate::schema;
use crate::supervisor::reload::{Load, Loaded};
use crate::supervisor::startup::StartupFacts;
use crate::supervisor::upgrade::predecessor::{Inherited, MainOrAdmin};
use crate::supervisor::{self, Bound, Outcome};
use crate::tls_start;
use crate::uwsgi_link;
use crate::verbs::{self, ControlCommand, print};
use anyhow::Context;
use pyserve_wire::control::Preload;

/// Longest wait for file system jobs at the exit of the server. Those of a hung network file system
/// never end.
const LAST_FILE_JOBS: Duration = Duration::from_millis(200);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    signals::block_none();
    diagnostics::report_panics();
    // Dropped last, also by a panic.
    let _write_out = WriteOut;
    if key_reader::become_reader() {
        return ExitCode::SUCCESS;
    }
    if let Some(words) = foreign::found::called_as("uwsgi") {
        return as_uwsgi(&words);
    }
    if let Some(words) = foreign::found::called_as("gunicorn") {
        return as_gunicorn(&words);
    }
    if let Some(problem) = gunicorn_link::become_hooks() {
        say(&format!("pyserve: {problem}"));
        return ExitCode::FAILURE;
    }
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => return answer(&error),
    };
    let ended = match invocation.verb {
        Verb::Control(verb) => return control(verb, invocation.flags),
        Verb::Help(page) => return printed(manual::show(page, &cli::verbs())),
        Verb::Explain(request) => return explain::run(&request),
        Verb::Init(request) => return init::run(&request),
        Verb::Man => return printed(reference::man_page().and_then(|page| print_bytes(&page))),
        Verb::Schema => return printed(print(&format!("{:#}", schema::schema()))),
        Verb::Completions(shell) => return printed(print_bytes(&reference::completions(shell))),
        Verb::Project(request) => match project::run(invocation.flags, &request) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => return complain(&error),
        },
        Verb::Serve => match with_procfile(invocation.flags) {
            Ok(flags) => return served(flags),
            Err(code) => return code,
        },
        Verb::Check => match with_procfile(invocation.flags) {
            Ok(flags) => run(flags, None, read_only, check),
            Err(code) => return code,
        },
    };
    ended_with(ended)
}

/// Adds the flags of a pyserve that the `Procfile` of an image starts.
fn with_procfile(mut flags: Layer) -> Result<Layer, ExitCode> {
    let found = config::procfile(flags.clone(), &HostFacts::of_this_process());
    // A mistake in the settings is reported where they are resolved.
    if let Some(words) = found.ok().flatten() {
        let words = words.iter().map(|word| native::string(word));
        let words = std::iter::once("pyserve".into()).chain(words);
        let invocation = cli::parse(words).map_err(|error| answer(&error))?;
        flags.fill(invocation.flags);
    }
    Ok(flags)
}

/// Runs what the command line of uWSGI asks for.
fn as_uwsgi(words: &[String]) -> ExitCode {
    if let Some(code) = uwsgi_link::answer(words) {
        return code;
    }
    match uwsgi_link::hand_over(words, &HostFacts::of_this_process()) {
        Ok(Some(code)) => code,
        Ok(None) => served(Layer::default()),
        Err(error) => complain(&error.into()),
    }
}

/// Runs what the command line of gunicorn asks for.
fn as_gunicorn(words: &[String]) -> ExitCode {
    let nothing = |_: &Config| Ok(Bound::default());
    let variable = std::env::var("GUNICORN_CMD_ARGS").ok();
    match gunicorn_link::role(words, variable.as_deref()) {
        gunicorn_link::Role::Answer(text) => printed(print(&text)),
        gunicorn_link::Role::Serve => served(Layer::default()),
        gunicorn_link::Role::Show => ended_with(run(Layer::default(), None, nothing, check)),
        gunicorn_link::Role::Check => {
            ended_with(run(Layer::default(), None, nothing, check_quietly))
        }
    }
}

/// Runs the server to its end.
fn served(flags: Layer) -> ExitCode {
    own_program::remember();
    let ready = supervisor::signals::survive_start().context("cannot handle signals");
    // Before the channel of an upgrade is taken: it executes this program again.
    let sourced = prestart::source(&flags);
    let inherited = match Inherited::take() {
        Ok(inherited) => inherited,
        Err(why) => return complain(&anyhow::Error::msg(why)),
    };
    let report = inherited.as_ref().and_then(Inherited::failure_report);
    let adopted = inherited.as_ref().map(Inherited::secrets);
    let adopted = adopted.and_then(|inherited| inherited.adopted.clone());
    let first = |config: &Config| bind(config, inherited);
    let ended = sourced.and(ready);
    let ended = ended.and_then(|()| run(flags, adopted, first, serve));
    if let Some(report) = report {
        match &ended {
            Ok(outcome) if outcome.last_error.is_empty() => {}
            Ok(outcome) => report.send(&outcome.last_error),
            Err(error) => report.send(&format!("{error:#}")),
        }
    }
    ended_with(ended)
}

fn ended_with(ended: anyhow::Result<Outcome>) -> ExitCode {
    match ended {
        Ok(outcome) => {
            if !outcome.last_error.is_empty() {
                say(&outcome.coded_error());
            }
            ExitCode::from(&outcome)
        }
        Err(error) => complain(&error),
    }
}

/// Prints help, version or a usage error, as worded by clap.
fn answer(error: &clap::Error) -> ExitCode {
    let (text, is_wrong) = (error.render(), error.use_stderr());
    let standard = match is_wrong {
        true => Standard::Error,
        false => Standard::Output,
    };
    let text = match standard.has_colours() {
        true => text.ansi().to_string(),
        false => text.to_string(),
    };
    if is_wrong {
        say(&text);
    } else if let Err(error) = print(text.trim_end()) {
        return complain(&error.into());
    }
    ExitCode::from(error.exit_code() as u8)
}

fn complain(error: &anyhow::Error) -> ExitCode {
    let text = format!("pyserve: {error:#}");
    say(&codes::with_code(&text, message_code(error)));
    ExitCode::from(exit_code(error))
}

/// The exit code of a verb that only prints.
fn printed(outcome: std::io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.into()),
    }
}

fn print_bytes(text: &[u8]) -> std::io::Result<()> {
    print(String::from_utf8_lossy(text).trim_end())
}

/// Controls a running server: that needs no runtime, no log, and no application.
fn control(verb: ControlCommand, flags: Layer) -> ExitCode {
    let reach = config::load_reach(flags, &HostFacts::of_this_process());
    match reach {
        Ok(reach) => verbs::run(verb, &reach),
        Err(error) => complain(&error.into()),
    }
}

/// The code of the message, with which the manual explains it.
fn message_code(error: &anyhow::Error) -> Option<&'static str> {
    match error {
        error if error.is::<BindError>() => Some(codes::BIND),
        error if error.is::<DropError>() => Some(codes::DROP_PRIVILEGES),
        error if error.is::<Unreachable>() => Some(codes::NO_PERMISSION),
        error if error.is::<TlsError>() => Some(codes::CERTIFICATE),
        error => error.downcast_ref::<ConfigError>().map(ConfigError::code),
    }
}

/// sysexits.h: 69 unavailable, 78 configuration; 1 for errors of system calls.
fn exit_code(error: &anyhow::Error) -> u8 {
    match error {
        error if error.is::<ConfigError>() || error.is::<DropError>() => 78,
        error if error.is::<Unreachable>() || error.is::<LogFileError>() => 78,
        error if error.is::<TlsError>() => 78,
        error if error.is::<BindError>() => 69,
        _ => 1,
    }
}

/// The second step, with the settings: serving, or checking them.
type Role = fn(&tokio::runtime::Runtime, Loaded, Load, Bound) -> anyhow::Result<Outcome>;

/// `first` is the first step, as the user that starts the server; `adopted` comes from the process whose place
/// this one takes.
fn run(
    flags: Layer,
    adopted: Option<CommandLine>,
    first: impl FnOnce(&Config) -> anyhow::Result<Bound>,
    role: Role,
) -> anyhow::Result<Outcome> {
    supervisor::signals::survive_file_limit().context("cannot handle signals")?;
    let load = move |adopted: Option<&CommandLine>| -> Result<Loaded, ConfigError> {
        let surroundings = HostFacts::of_this_process();
        let surroundings = match adopted {
            Some(line) => line.applied_to(surroundings),
            None => surroundings,
        };
        let resolved = config::load(flags.clone(), &surroundings)?;
        let applications = resolved.config.apps.clone();
        Ok((resolved, applications))
    };
    let (resolved, applications) = load(adopted.as_ref())?;
    config::enter_current_directory(&resolved.config);
    logs::init(
        resolved.config.log_format,
        &resolved.config.log_level,
        resolved.config.log_files.diagnostics.is_none() && Standard::Error.has_colours(),
    )
    .map_err(anyhow::Error::msg)?;
    for notice in &resolved.notices {
        tracing::info!("{notice}");
    }
    for warning in &resolved.config.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(mask) = resolved.config.umask {
        process::set_umask(mask);
    }
    let bound = first(&resolved.config)?;
    // Done while this is the only thread: each thread has its own credentials.
    drop_privileges(&resolved.config)?;
    diagnostics::begin();
    let runtime = runtime(resolved.config.front_threads)
        .map_err(|error| anyhow::Error::msg(descriptors::explain(&error)))
        .context("cannot start the threads of the front")?;
    let reload = move |adopted: Option<&CommandLine>| -> Result<Loaded, ConfigError> {
        let loaded = load(adopted)?;
        loaded.1.iter().try_for_each(reach::check)?;
        Ok(loaded)
    };
    let ended = role(&runtime, (resolved, applications), Arc::new(reload), bound);
    // Dropping the runtime would wait for all jobs.
    runtime.shutdown_timeout(LAST_FILE_JOBS);
    ended
}

/// Time after which an idle blocking thread ends: practically never, so that a server which cannot
/// start threads any more (`pids.max`, `ulimit -u`) keeps those that it has.
const KEEP_THREADS: Duration = Duration::from_secs(365 * 24 * 3600);

/// A single thread needs no synchronisation between threads.
fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    use tokio::runtime::Builder;
    let mut builder = match threads {
        0 | 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(threads.max(1))
        .max_blocking_threads(FilePool::THREADS + Encoders::THREADS)
        .thread_keep_alive(KEEP_THREADS)
        .thread_name("pyserve-front")
        .on_thread_start(scheduling::never_preempt)
        .enable_all();
    descriptors::room_for_runtime()?;
    FilePool::try_threads(if threads > 1 { threads } else { 0 })?;
    memory::use_small_pages();
    // A runtime of one thread runs in this one.
    scheduling::never_preempt();
    let runtime = builder.build()?;
    FilePool::make_threads(&runtime)?;
    Ok(runtime)
}

/// Reads what a check needs.
fn read_only(config: &Config) -> anyhow::Result<Bound> {
    Ok(Bound {
        certificates: tls_start::read(config, &[])?,
        ..Bound::default()
    })
}

fn bind(config: &Config, mut inherited: Option<Inherited>) -> anyhow::Result<Bound> {
    tls_start::prepare_acme(config)?;
    let known = inherited.as_ref();
    let known = known.map_or(&[][..], |inherited| &inherited.secrets().certificates);
    let certificates = tls_start::read(config, known)?;
    let run_as = config.run_as.as_ref();
    let becomes = run_as
        .filter(|run_as| identity::own().0 == 0 && run_as.uid != 0)
        .map(|run_as| (run_as.uid, run_as.gid));
    log_files::open(&config.log_files, becomes)?;
    let file = SocketFileSettings {
        mode: config.socket_files.mode,
        owner: config.socket_files.owner,
        becomes,
    };
    let manager = ServiceManager::take().map_err(BindError::of_passed)?;
    let (admin, passed): (Vec<_>, Vec<_>) = manager
        .sockets
        .into_iter()
        .partition(|passed| passed.name == ADMIN_SOCKET);
    let listening = |sockets: Vec<PassedSocket>| -> Result<Vec<_>, BindError> {
        sockets.into_iter().map(Listener::passed).collect()
    };
    let (mut passed, mut admin) = (listening(passed)?, listening(admin)?);
    if let Some(inherited) = &mut inherited {
        passed.extend(inherited.passed(MainOrAdmin::Main));
        admin.extend(inherited.passed(MainOrAdmin::Admin));
    }
    let mut bind = |role, address: &ListenAddress| {
        let known = inherited.as_mut();
        match known.and_then(|inherited| inherited.listener(role, address)) {
            Some(listener) => Ok(listener),
            None => Listener::bind(address, &file),
        }
    };
    let listeners: Result<Vec<_>, _> = match passed.is_empty() {
        true => {
            let all = config.bind.iter();
            all.map(|address| bind(MainOrAdmin::Main, address))
                .collect()
        }
        false => Ok(passed),
    };
    let listeners = listeners?;
    let admin = match admin.into_iter().next() {
        Some(passed) => Some(passed),
        None => {
            let address = config.admin.as_ref();
            address
                .map(|address| bind(MainOrAdmin::Admin, address))
                .transpose()?
        }
    };
    Ok(Bound {
        listeners,
        admin,
        pidfile: pidfile(config, inherited.as_mut()),
        notifications: manager.notifications,
        certificates,
        inherited,
    })
}

/// Name of a passed socket (`FileDescriptorName=`) that is the admin listener. All others take the
/// place of `--bind`.
const ADMIN_SOCKET: &str = "admin";

/// Writes the process id as the user that starts the server; a process that takes the place of another writes
/// it later. Without the file the server runs as well.
fn pidfile(config: &Config, inherited: Option<&mut Inherited>) -> Option<PidFile> {
    let path = config.pidfile.as_ref()?;
    let file = match inherited {
        Some(inherited) => inherited.pidfile(path),
        None => PidFile::write(path),
    };
    file.inspect_err(|error| {
        tracing::warn!(file = %path.display(), %error, "cannot write the process id (set another file with --pidfile)");
    })
    .ok()
}

fn drop_privileges(config: &Config) -> anyhow::Result<()> {
    if let Some(run_as) = &config.run_as {
        let (uid, gid) = (run_as.uid, run_as.gid);
        identity::become_for_good(uid, gid, run_as.name.as_deref(), &run_as.home)?;
    }
    if let Err(error) = temporary::unlinked_file(&config.temp_dir) {
        let (uid, gid) = identity::own();
        tracing::warn!(code = codes::TEMP_DIR, directory = %config.temp_dir.display(), uid, gid, %error,
            "cannot create temporary files: large bodies will be refused (make the directory writable for this user, or set another with --temp-dir)");
    }
    Ok(())
}

fn serve(
    runtime: &tokio::runtime::Runtime,
    loaded: Loaded,
    load: Load,
    bound: Bound,
) -> anyhow::Result<Outcome> {
    loaded.1.iter().try_for_each(reach::check)?;
    runtime
        .block_on(supervisor::serve(loaded, load, bound))
        .map_err(|error| anyhow::Error::msg(descriptors::explain(&error)).context("cannot start"))
}

fn check(
    runtime: &tokio::runtime::Runtime,
    (resolved, applications): Loaded,
    _load: Load,
    bound: Bound,
) -> anyhow::Result<Outcome> {
    report::settings(&resolved)?;
    if let Some(certificates) = &bound.certificates {
        report::certificates(certificates)?;
    }
    if let Some(acme) = &resolved.config.https.acme {
        report::acme(acme)?;
    }
    if applications.is_empty() {
        print("\nno application")?;
    }
    imported(runtime, applications, |index, preload, facts| {
        report::application(&resolved.config.place_of(index), preload, facts)
    })
}

fn check_quietly(
    runtime: &tokio::runtime::Runtime,
    (_, applications): Loaded,
    _load: Load,
    _bound: Bound,
) -> anyhow::Result<Outcome> {
    imported(runtime, applications, |_, _, _| Ok(()))
}

/// Imports each application, and reports the facts about it.
fn imported(
    runtime: &tokio::runtime::Runtime,
    applications: Vec<AppSettings>,
    report: impl Fn(usize, Preload, &StartupFacts) -> std::io::Result<()>,
) -> anyhow::Result<Outcome> {
    for (index, settings) in applications.into_iter().enumerate() {
        reach::check(&settings)?;
        let preload = settings.preload;
        let (facts, outcome) = runtime
            .block_on(supervisor::check::check(settings))
            .map_err(|error| {
                anyhow::Error::msg(descriptors::explain(&error)).context("cannot check")
            })?;
        report(index, preload, &facts)?;
        if outcome.code != 0 {
            return Ok(outcome);
        }
    }
    Ok(Outcome {
        code: 0,
        last_error: String::new(),
    })
}
