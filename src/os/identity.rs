//! Users and groups: looking them up, and dropping privileges for good.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
}

/// Reasons why privileges could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// It is not root.
    #[error(
        "cannot run as uid {uid} and gid {gid}: this process is uid {own_uid} with gid {own_gid}, and only root may change \
         (start it as root, or as that user and without --uid and --gid)"
    )]
    NotRoot {
        /// The user that was asked for.
        uid: u32,
        /// The group that was asked for.
        gid: u32,
        /// The user that it is.
        own_uid: u32,
        /// The group that it is.
        own_gid: u32,
    },
    /// The kernel refused.
    #[error(
        "cannot run as uid {uid} and gid {gid}: {what}: {cause} (root without the capabilities SETUID and SETGID? \
         then start as that user, as `docker run --user {uid}:{gid}` does)"
    )]
    Refused {
        /// The user that was asked for.
        uid: u32,
        /// The group that was asked for.
        gid: u32,
        /// The step that failed.
        what: &'static str,
        /// The error of the system call. Not its source, which would be printed again.
        cause: io::Error,
    },
    /// It worked, but can be undone.
    #[error("cannot run as uid {uid} for good: root can be had back (do not keep capabilities)")]
    Regainable {
        /// The user that was asked for.
        uid: u32,
    },
}

/// The user of this name or number in `/etc/passwd`.
pub fn user(name_or_number: &str) -> Option<User> {
    let number = name_or_number.parse::<u32>().ok();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd
        .lines()
        .filter_map(user_of_line)
        .find(|user| user.name == name_or_number || number.is_some_and(|number| user.uid == number))
}

/// The number of the group of this name in `/etc/group`.
pub fn group(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

/// The name of the group of this number in `/etc/group`.
pub fn group_name(gid: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

/// The groups of a user: this one, and those of `/etc/group` in which `name` stands.
pub fn groups(name: Option<&str>, gid: u32) -> Vec<u32> {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    let others = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let number: u32 = fields.nth(2)?.parse().ok()?;
        let mut members = fields.next()?.split(',');
        members
            .any(|member| Some(member.trim()) == name)
            .then_some(number)
    });
    let mut all = vec![gid];
    all.extend(others.filter(|number| *number != gid));
    all
}

/// Has the child of `command` become this user, with these groups, before it executes its program.
pub fn run_as(command: &mut Command, uid: u32, gid: u32, groups: &[u32]) {
    let groups: Vec<_> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let become_user = move || {
        set_thread_groups(&groups)?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes three system calls, and allocates nothing.
    unsafe { command.pre_exec(become_user) };
}

fn user_of_line(line: &str) -> Option<User> {
    let fields: Vec<_> = line.split(':').collect();
    let [name, _, uid, gid, _, home, ..] = fields[..] else {
        return None;
    };
    Some(User {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.into(),
    })
}

/// The effective user and group of this process.
pub fn own() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}

/// Does something with the rights of another user and group, without further groups, and takes
/// root's back. Rights belong to a thread: only this one has them meanwhile.
///
/// # Errors
/// The error of the system call for changing the rights, or about taking them back.
pub fn acting_as<T>(uid: u32, gid: u32, act: impl FnOnce() -> T) -> io::Result<T> {
    let groups = getgroups()?;
    let (own_uid, own_gid) = (geteuid(), getegid());
    set_thread_groups(&[])?;
    set_thread_res_gid(own_gid, Gid::from_raw(gid), own_gid)?;
    let done = set_thread_res_uid(own_uid, Uid::from_raw(uid), own_uid).map(|()| act());
    set_thread_res_uid(own_uid, own_uid, own_uid)?;
    set_thread_res_gid(own_gid, own_gid, own_gid)?;
    set_thread_groups(&groups)?;
    Ok(done?)
}

/// Becomes this user and group for good, without further groups, and so that no program it
/// executes gets more rights. `home` and `name` go to the environment.
///
/// Rights belong to a thread, so there must be only one. One that is that user already stays
/// as it is.
///
/// # Errors
/// [`DropError`] names the users and the remedy.
pub fn become_for_good(
    uid: u32,
    gid: u32,
    name: Option<&str>,
    home: &Path,
) -> Result<(), DropError> {
    let (own_uid, own_gid) = own();
    if own_uid != 0 {
        if (own_uid, own_gid) == (uid, gid) {
            return Ok(());
        }
        return Err(DropError::NotRoot {
            uid,
            gid,
            own_uid,
            own_gid,
        });
    }
    let refused = |what| {
        move |error: rustix::io::Errno| DropError::Refused {
            uid,
            gid,
            what,
            cause: error.into(),
        }
    };
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[]).map_err(refused("clearing the further groups"))?;
    set_thread_res_gid(group, group, group).map_err(refused("taking the group"))?;
    set_thread_res_uid(user, user, user).map_err(refused("taking the user"))?;
    let root = Uid::ROOT;
    if uid != 0 && set_thread_res_uid(root, root, root).is_ok() {
        return Err(DropError::Regainable { uid });
    }
    set_no_new_privs(true).map_err(refused("giving up further rights"))?;
    for (variable, value) in [
        ("HOME", Some(home.as_os_str())),
        ("USER", name.map(AsRef::as_ref)),
        ("LOGNAME", name.map(AsRef::as_ref)),
    ] {
        match value {
            // SAFETY: there is one thread, as the documentation above demands.
            Some(value) => unsafe { std::env::set_var(variable, value) },
            // SAFETY: as above.
            None => unsafe { std::env::remove_var(variable) },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_passwd_are_read() {
        let user = user_of_line("www-data:x:33:34:www-data:/var/www:/usr/sbin/nologin").unwrap();
        assert_eq!((user.uid, user.gid), (33, 34));
        assert_eq!(user.home, Path::new("/var/www"));
        for line in ["", "# comment", "a:b:c", "a:x:one:2:c:/home:/bin/sh"] {
            assert_eq!(user_of_line(line), None, "{line:?}");
        }
    }

    #[test]
    fn root_is_known_by_name_and_number() {
        assert_eq!(user("root").map(|user| user.uid), Some(0));
        assert_eq!(user("0").map(|user| user.name), Some("root".to_owned()));
        assert_eq!(group("root"), Some(0));
        assert_eq!(user("nobody-of-that-name"), None);
    }
}
