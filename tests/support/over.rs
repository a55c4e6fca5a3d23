//! One test with and without TLS: towards servers behind pyserve by [`over_both`](crate::over_both), of
//! clients by [`clients_over_tls`](crate::clients_over_tls).

use std::cell::Cell;

use super::backend::{Backend, Call};

/// The transport between a client or pyserve and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The bytes as they are.
    Tcp,
    /// Inside a TLS session.
    Tls,
}

impl Over {
    /// A backend on a free port.
    pub fn backend(self, script: impl Fn(Call) + Send + Sync + 'static) -> Backend {
        match self {
            Self::Tcp => Backend::tcp(script),
            Self::Tls => Backend::tls(script),
        }
    }
}

thread_local! {
    static CLIENTS: Cell<Over> = const { Cell::new(Over::Tcp) };
}

/// The transport of the clients in this thread's test.
pub fn clients() -> Over {
    CLIENTS.get()
}

/// Runs a test whose servers have TLS, and whose connections to them are sessions.
pub fn with_tls_clients(test: fn()) {
    CLIENTS.set(Over::Tls);
    test();
}

/// Makes of each of these tests another one whose clients use TLS.
#[macro_export]
macro_rules! clients_over_tls {
    ($($name:ident),* $(,)?) => {
        mod clients_over_tls {
            $(#[test] fn $name() { $crate::support::over::with_tls_clients(super::$name) })*
        }
    };
}

/// Makes two tests of each of these functions, which take an [`Over`].
#[macro_export]
macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod over_tcp {
            $(#[test] fn $name() { super::$name($crate::support::over::Over::Tcp) })*
        }
        mod over_tls {
            $(#[test] fn $name() { super::$name($crate::support::over::Over::Tls) })*
        }
    };
}
