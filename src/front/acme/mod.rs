//! Certificates from an authority that speaks ACME (RFC 8555): ordered, renewed and stored by the
//! server itself.
//!
//! ```text
//! task         one task of the front; looks each second what is due (current, schedule); of several
//!              servers that share the directory only the one with its lock orders
//! attempt      account, order, challenge, certificate -> protocol (jws, der) -> https
//! store        the directory, with the state that survives a restart (state); tls::certificates picks
//!              a new file up as any other that has changed
//! challenges   what the listeners answer meanwhile: request/ (HTTP-01), tls/stand_ins (TLS-ALPN-01)
//! shown        the state for the status, the metrics and `pyserve check`
//! ```
//!
//! Nothing here blocks: files are read and written in the [`FilePool`]. Serving never waits for it: a
//! certificate stays in use until the next one is there.

pub mod attempt;
pub mod challenges;
pub mod current;
pub mod der;
pub mod error;
pub mod https;
pub mod jws;
pub mod protocol;
pub mod schedule;
pub mod shown;
pub mod state;
pub mod store;
pub mod task;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::challenges::Challenges;
use crate::config::acme::AcmeSettings;
use crate::front::sendfile::file_pool::FilePool;

/// The task with its settings; a reload that changes them starts another one.
#[derive(Debug, Default)]
pub struct Acme {
    /// Answers of the listeners.
    pub challenges: Challenges,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    settings: AcmeSettings,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Acme {
    /// Follows these settings; until `stopping`. With the same settings the task goes on.
    pub fn follow(
        &self,
        settings: Option<&AcmeSettings>,
        files: &FilePool,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) {
        let mut running = self.running.lock();
        if running.as_ref().map(|running| &running.settings) == settings {
            return;
        }
        let before = running.take();
        if let Some(before) = &before {
            before.stop.cancel();
        }
        let settings = settings.cloned();
        let stop = stopping.child_token();
        let (challenges, files, token) = (self.challenges.clone(), files.clone(), stop.clone());
        let wanted = settings.clone();
        let task = tasks.spawn(async move {
            // It has the lock of the directory until it ends, at its next `await`.
            if let Some(before) = before {
                let _panicked = before.task.await;
            }
            match wanted {
                Some(settings) => task::run(settings, challenges, files, token).await,
                None => task::clear(&challenges),
            }
        });
        *running = settings.map(|settings| Running {
            settings,
            stop,
            task,
        });
    }
}
