//! The interfaces to a running server besides its listeners: the control socket and the admin
//! listener.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::control::{Command, ControlSocket, SharedControl};
use crate::config::{Config, Control};
use crate::front::accept::admin_server::{self, Stages};
use crate::front::accept::listener::Listener;
use crate::front::admin::Probes;

/// Longest time for the last responses on the control socket.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// The control socket and the admin listener, in tasks of their own.
pub(super) struct Interfaces {
    control: Control,
    commander: mpsc::Sender<Command>,
    stages: Stages,
    tasks: TaskTracker,
}

impl Interfaces {
    /// Prepares both, if the settings have them; [`Interfaces::open`] serves them.
    pub(super) fn new(
        config: &Config,
        commander: mpsc::Sender<Command>,
        admin: Option<Listener>,
        probes: Probes,
    ) -> Self {
        let (stages, tasks) = (Stages::default(), TaskTracker::new());
        if let Some(admin) = admin {
            tracing::info!(address = %admin.address, "probes, metrics and status on {}", admin.address);
            let serve = admin_server::serve(admin, probes, stages.clone(), tasks.clone());
            tasks.spawn(async {
                if let Err(error) = serve.await {
                    tracing::error!(%error, "cannot accept on the admin listener");
                }
            });
        }
        Self {
            control: config.control.clone(),
            commander,
            stages,
            tasks,
        }
    }

    /// Serves both from now on; `inherited` is the control socket of the server whose place this process
    /// takes. Returns the one for the next process.
    pub(super) fn open(&self, inherited: Option<SharedControl>) -> Option<SharedControl> {
        self.stages.open.cancel();
        let taken = inherited.and_then(|shared| ControlSocket::taken_over(&self.control, shared));
        let socket = taken.or_else(|| ControlSocket::open(&self.control))?;
        let shared = socket.share().ok();
        let (stages, tasks) = (self.stages.clone(), self.tasks.clone());
        self.tasks
            .spawn(socket.serve(self.commander.clone(), stages, tasks));
        shared
    }

    /// Leaves new connections to the process that has taken the sockets over.
    pub(super) fn release(&self) {
        self.stages.released.cancel();
    }

    /// Ends both once the last answers are sent.
    pub(super) async fn close(self) {
        // A client that asked for the stop gets its answer last.
        self.stages.ended.cancel();
        self.tasks.close();
        let _late = tokio::time::timeout(LAST_ANSWERS, self.tasks.wait()).await;
    }
}
