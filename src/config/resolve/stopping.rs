//! Time limits of a stop, and whether they fit the container runtime.

use std::time::Duration;

use super::{ConfigError, Resolver, values};
use crate::config::companions::Companion;

/// Time for the workers' exit hooks and for the rest of the shutdown.
const TO_LEAVE: Duration = Duration::from_secs(1);

/// Least time for companions when the graceful timeout is used up.
const FOR_COMPANIONS: Duration = Duration::from_secs(1);

/// The container runtime, which kills process 1 when it has not ended in time.
struct Runtime {
    name: &'static str,
    patience: Duration,
    option: &'static str,
    /// Seconds, so that everything else fits with them.
    graceful_timeout: u64,
}

/// `docker stop`, and so Compose and Podman.
const DOCKER: Runtime = Runtime {
    name: "Docker",
    patience: Duration::from_secs(10),
    option: "docker run --stop-timeout, Compose's stop_grace_period",
    graceful_timeout: 8,
};

const KUBERNETES: Runtime = Runtime {
    name: "Kubernetes",
    patience: Duration::from_secs(30),
    option: "terminationGracePeriodSeconds",
    graceful_timeout: 25,
};

impl Resolver<'_> {
    /// Longest time for requests in flight at a stop, and the time before that during which
    /// connections are still accepted. As process 1 of a container the first is adapted to what its
    /// runtime allows; an explicit setting that exceeds it causes a warning.
    pub(super) fn stopping(
        &mut self,
        companions: &[Companion],
    ) -> Result<(Duration, Duration), ConfigError> {
        let delay = self.one("drain_delay", values::duration)?;
        let given = self.optional("graceful_timeout", values::duration)?;
        let runtime = self.runtime();
        let seconds = runtime.map_or(30, |runtime| runtime.graceful_timeout);
        let timeout = given.unwrap_or(Duration::from_secs(seconds));
        for one in companions {
            let stop_timeout = one.stop_timeout.filter(|time| *time > timeout);
            if let Some(time) = stop_timeout {
                self.warnings.push(format!(
                    "the stop_timeout of companion {}, {} s, is longer than graceful_timeout, {} s: when the server stops, it is killed after the latter (raise graceful_timeout)",
                    one.name,
                    time.as_secs_f32(),
                    timeout.as_secs_f32(),
                ));
            }
        }
        if given.is_some() {
            return Ok((timeout, delay));
        }
        self.show_default("graceful_timeout", seconds.to_string());
        let companions = match companions {
            [] => Duration::ZERO,
            _ => FOR_COMPANIONS,
        };
        let all = delay + timeout + TO_LEAVE + companions;
        if let Some(runtime) = runtime.filter(|runtime| all > runtime.patience) {
            self.warnings.push(format!(
                "a stop may take {} s (drain_delay {}, graceful_timeout {seconds}, exit hooks 1, companions {}), but {} kills after {}: allow it more ({}), and set graceful_timeout",
                all.as_secs_f32(),
                delay.as_secs_f32(),
                companions.as_secs_f32(),
                runtime.name,
                runtime.patience.as_secs(),
                runtime.option,
            ));
        }
        Ok((timeout, delay))
    }

    fn runtime(&self) -> Option<&'static Runtime> {
        let environment = &self.surroundings.environment;
        let is_pod = environment.variable("KUBERNETES_SERVICE_HOST").is_some();
        let runtime = if is_pod { &KUBERNETES } else { &DOCKER };
        self.surroundings.is_init.then_some(runtime)
    }
}
