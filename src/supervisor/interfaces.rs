//! The interfaces to a running server besides its listeners: the control socket and the admin
//! listener.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::{Command, ControlSocket};
use crate::config::Config;
use crate::front::accept::admin_server;
use crate::front::accept::listener::Listener;
use crate::front::admin::Probes;

/// Longest time for the last responses on the control socket.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// The control socket and the admin listener, in tasks of their own.
pub(super) struct Interfaces {
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl Interfaces {
    /// Serves both, if the settings have them.
    pub(super) fn open(
        config: &Config,
        commander: mpsc::Sender<Command>,
        admin: Option<Listener>,
        probes: Probes,
    ) -> Self {
        let (ended, tasks) = (CancellationToken::new(), TaskTracker::new());
        if let Some(socket) = ControlSocket::open(&config.control) {
            tasks.spawn(socket.serve(commander, ended.clone(), tasks.clone()));
        }
        if let Some(admin) = admin {
            tracing::info!(address = %admin.address, "probes, metrics and status on {}", admin.address);
            let serve = admin_server::serve(admin, probes, ended.clone(), tasks.clone());
            tasks.spawn(async {
                if let Err(error) = serve.await {
                    tracing::error!(%error, "cannot accept on the admin listener");
                }
            });
        }
        Self { ended, tasks }
    }

    /// Ends both once the last answers are sent.
    pub(super) async fn close(self) {
        // A client that asked for the stop gets its answer last.
        self.ended.cancel();
        self.tasks.close();
        let _late = tokio::time::timeout(LAST_ANSWERS, self.tasks.wait()).await;
    }
}
