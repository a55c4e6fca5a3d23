//! Addresses on which another process listens, from `/proc`.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP addresses on which a process listens, without those of sockets that this process has as well,
/// such as the sockets of systemd that both have inherited.
pub fn of_process(pid: u32) -> Vec<SocketAddr> {
    let theirs = sockets(&pid.to_string());
    let ours = sockets("self");
    let tables = ["tcp", "tcp6"].map(|table| {
        let path = format!("/proc/{pid}/net/{table}");
        std::fs::read_to_string(path).unwrap_or_default()
    });
    let lines = tables.iter().flat_map(|table| table.lines());
    let listening = lines.filter_map(listener);
    let mut addresses: Vec<_> = listening
        .filter(|(_, inode)| theirs.contains(inode) && !ours.contains(inode))
        .map(|(address, _)| address)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Inode numbers of the sockets that a process has open.
fn sockets(process: &str) -> HashSet<u64> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd"));
    let targets = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets
        .filter_map(|target| {
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            inode.parse().ok()
        })
        .collect()
}

/// Address and inode of a listening socket in a line of `/proc/net/tcp` or `tcp6`
/// (proc_net_tcp.rst of the kernel): number, local address, remote address, state, ..., inode.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of four bytes, each printed as a number of this machine's byte order.
    let words = (0..address.len() / 8)
        .map(|at| u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok())
        .collect::<Option<Vec<_>>>()?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some((SocketAddr::new(ip, port), fields.get(9)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn our_own_sockets_are_not_those_of_another() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inodes = sockets("self");
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let found = table.lines().filter_map(super::listener);
        let ours: Vec<_> = found
            .filter(|(_, inode)| inodes.contains(inode))
            .map(|(address, _)| address)
            .collect();
        assert!(ours.contains(&listener.local_addr().unwrap()), "{ours:?}");
        assert!(of_process(std::process::id()).is_empty());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1";
        assert_eq!(
            listener(line),
            Some(("127.0.0.1:5000".parse().unwrap(), 4711))
        );
        let line = "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 12 1";
        assert_eq!(listener(line), Some(("[::1]:80".parse().unwrap(), 12)));
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listener("  sl  local_address rem_address   st"), None);
    }
}
