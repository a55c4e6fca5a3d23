//! The `pyserve` command: parse, resolve, run, map the result to an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use pyserve::cli::{self, Verb};
use pyserve::config::layers::Layer;
use pyserve::config::{self, ConfigError, Surroundings};
use pyserve::front::file_pool::FilePool;
use pyserve::front::listener::{BindError, Listener};
use pyserve::observe::logs;
use pyserve::supervisor::reload::{Load, Loaded};
use pyserve::supervisor::{self, Outcome};
use pyserve::verbs::{self, Steer};

/// Header maps, buffers and tasks come and go with every request: measured with a hello
/// application, glibc's allocator costs the front 7 % of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => error.exit(),
    };
    let ended = match invocation.verb {
        Verb::Steer(verb) => return steer(verb, invocation.flags),
        Verb::Serve => run(invocation.flags, serve),
        Verb::Check => run(invocation.flags, check),
    };
    match ended {
        Ok(outcome) => {
            if !outcome.last_words.is_empty() {
                eprintln!("{}", outcome.last_words.trim_end());
            }
            ExitCode::from(&outcome)
        }
        Err(error) => complain(&error),
    }
}

fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("pyserve: {error:#}");
    ExitCode::from(exit_code(error))
}

/// Talks to a running server: no runtime, no log, and no application is needed for that.
fn steer(verb: Steer, flags: Layer) -> ExitCode {
    let reach =
        Surroundings::of_this_process().and_then(|around| config::load_reach(flags, &around));
    match reach {
        Ok(reach) => verbs::run(verb, &reach),
        Err(error) => complain(&error.into()),
    }
}

/// sysexits.h: 69 unavailable, 78 configuration; 1 for what the kernel refuses us.
fn exit_code(error: &anyhow::Error) -> u8 {
    match error {
        error if error.is::<ConfigError>() => 78,
        error if error.is::<BindError>() => 69,
        _ => 1,
    }
}

/// What is done with the settings: serving, or checking them.
type Role = fn(&tokio::runtime::Runtime, Loaded, Load) -> anyhow::Result<Outcome>;

fn run(flags: Layer, role: Role) -> anyhow::Result<Outcome> {
    let load = move || {
        let surroundings = Surroundings::of_this_process()?;
        let resolved = config::load(flags.clone(), &surroundings)?;
        let applications = resolved.config.applications()?;
        Ok((resolved, applications))
    };
    let (resolved, applications) = load()?;
    logs::init(
        resolved.config.log_format,
        &resolved.config.log_level,
        std::io::stderr().is_terminal(),
    )
    .map_err(anyhow::Error::msg)?;
    for warning in &resolved.config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime =
        runtime(resolved.config.front_threads).context("cannot start the threads of the front")?;
    role(&runtime, (resolved, applications), Arc::new(load))
}

/// One thread needs none of the synchronisation that several do.
fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    use tokio::runtime::Builder;
    let mut builder = match threads {
        0 | 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(threads.max(1))
        .max_blocking_threads(FilePool::THREADS)
        .thread_name("pyserve-front")
        .enable_all()
        .build()
}

fn serve(runtime: &tokio::runtime::Runtime, loaded: Loaded, load: Load) -> anyhow::Result<Outcome> {
    let config = &loaded.0.config;
    let listeners = config
        .bind
        .iter()
        .map(Listener::bind)
        .collect::<Result<Vec<_>, _>>()?;
    let admin = config.admin.as_ref().map(Listener::bind).transpose()?;
    runtime
        .block_on(supervisor::serve(loaded, load, listeners, admin))
        .context("cannot start")
}

fn check(
    runtime: &tokio::runtime::Runtime,
    (resolved, applications): Loaded,
    _load: Load,
) -> anyhow::Result<Outcome> {
    for (name, value, origin) in &resolved.origins {
        println!("{name:<18} {value:<32} {origin}");
    }
    for line in resolved.config.location_lines() {
        println!("{:<18} {line}", "location");
    }
    if applications.is_empty() {
        println!("\nno application");
    }
    for settings in applications {
        let (facts, outcome) = runtime
            .block_on(supervisor::check::check(settings))
            .context("cannot check")?;
        if let (Some(python), Some(loaded)) = (facts.interpreter, facts.loaded) {
            println!(
                "\npython             {} {} (from {})",
                python.version, python.executable, facts.found
            );
            println!(
                "application        {} {} imported in {} ms",
                loaded.app, loaded.framework, loaded.import_ms
            );
        }
        if outcome.code != 0 {
            return Ok(outcome);
        }
    }
    Ok(Outcome {
        code: 0,
        last_words: String::new(),
    })
}
