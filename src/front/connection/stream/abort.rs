//! Resets a connection whose end must not look like the end of a response: without a length and
//! without chunks (HTTP/1.0) a client would take a part for the whole.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::front::socket::Socket;
use crate::os::sockets;

/// Pause between two checks for unacknowledged bytes.
const PAUSE: Duration = Duration::from_millis(10);
/// Most checks.
const PAUSES: usize = 200;

/// Resets the connection once the client has received what was sent, which a reset would destroy. A
/// Unix socket has no reset.
pub fn abort(socket: Socket) {
    if !is_on_its_way(&socket) {
        return reset(&socket);
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    runtime.spawn(async move {
        for _ in 0..PAUSES {
            if !is_on_its_way(&socket) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        reset(&socket);
    });
}

fn is_on_its_way(socket: &Socket) -> bool {
    sockets::unacknowledged(socket.as_fd()).is_ok_and(|bytes| bytes > 0)
}

/// Makes closing the socket a reset.
fn reset(socket: &Socket) {
    // Fails if the connection has ended.
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}
