//! The interfaces to a running server besides its listeners: the control socket, the FIFO with commands,
//! and the admin listener.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::control::fifo::CommandFifo;
use super::control::{Command, ControlSocket, SharedControl};
use crate::config::{Config, Control};
use crate::front::accept::admin_server::{self, Stages};
use crate::front::accept::listener::Listener;
use crate::front::admin::Probes;

/// Longest time for the last responses on the control socket.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// The control socket, the FIFO and the admin listener, in tasks of their own.
pub(super) struct Interfaces {
    control: Control,
    fifo: Option<PathBuf>,
    commander: mpsc::Sender<Command>,
    stages: Stages,
    tasks: TaskTracker,
}

impl Interfaces {
    /// Prepares those that the settings have; [`Interfaces::open`] serves them.
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
            fifo: config.control_fifo.clone(),
            commander,
            stages,
            tasks,
        }
    }

    /// Serves all from now on; `inherited` is the control socket of the server whose place this process,
    /// a successor, takes. Returns the one for the next process.
    pub(super) fn open(
        &self,
        inherited: Option<SharedControl>,
        is_successor: bool,
    ) -> Option<SharedControl> {
        self.stages.open.cancel();
        self.open_fifo(is_successor);
        let taken = inherited.and_then(|shared| ControlSocket::taken_over(&self.control, shared));
        let socket = taken.or_else(|| ControlSocket::open(&self.control))?;
        let shared = socket.share().ok();
        let (stages, tasks) = (self.stages.clone(), self.tasks.clone());
        self.tasks
            .spawn(socket.serve(self.commander.clone(), stages, tasks));
        shared
    }

    fn open_fifo(&self, is_successor: bool) {
        let Some(path) = &self.fifo else { return };
        match CommandFifo::open(path, is_successor) {
            Ok(fifo) => {
                let serve = fifo.serve(self.commander.clone(), self.stages.clone());
                self.tasks.spawn(serve);
            }
            Err(error) => {
                let path = path.display();
                tracing::warn!(
                    "no commands from the FIFO {path}: {error} (set another path with --control-fifo)"
                );
            }
        }
    }

    /// Leaves new connections to the process that has taken the sockets over.
    pub(super) fn release(&self) {
        self.stages.released.cancel();
    }

    /// Ends all once the last answers are sent.
    pub(super) async fn close(self) {
        // A client that asked for the stop gets its answer last.
        self.stages.ended.cancel();
        self.tasks.close();
        let _late = tokio::time::timeout(LAST_ANSWERS, self.tasks.wait()).await;
    }
}
