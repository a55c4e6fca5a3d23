//! As whom the server runs once its addresses are bound.

use std::path::PathBuf;

use super::Resolver;
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::{RunAs, SocketFiles};
use crate::os::identity;

impl Resolver<'_> {
    pub(super) fn socket_files(&mut self) -> Result<SocketFiles, ConfigError> {
        let files = SocketFiles {
            mode: self.optional("bind_mode", mode)?,
            owner: self.optional("bind_owner", owner)?,
        };
        if files.mode.is_none() {
            self.show_default("bind_mode", "by the umask".to_owned());
        }
        if files.owner.is_none() {
            self.show_default("bind_owner", "none".to_owned());
        }
        Ok(files)
    }

    pub(super) fn umask(&mut self) -> Result<Option<u32>, ConfigError> {
        let mask = self.optional("umask", |text| {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            let is_octal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            let mask = u32::from_str_radix(digits, 8).ok();
            mask.filter(|mask| *mask <= 0o777 && is_octal)
                .ok_or(invalid(
                    "not a mask",
                    "give three octal digits, such as 022",
                ))
        })?;
        if mask.is_none() {
            self.show_default("umask", "unchanged".to_owned());
        }
        Ok(mask)
    }

    pub(super) fn run_as(&mut self) -> Result<Option<RunAs>, ConfigError> {
        let gid = self.optional("gid", group)?;
        let user = self.optional("uid", |text| with_group(text, gid, "give --gid as well"))?;
        if user.is_none() {
            self.show_default("uid", "none".to_owned());
        }
        if gid.is_none() {
            let shown = user.as_ref().and_then(|user| user.gid);
            self.show_default(
                "gid",
                shown.map_or("none".to_owned(), |gid| gid.to_string()),
            );
        }
        let (own_uid, own_gid) = identity::own();
        let user = match (user, gid) {
            (Some(user), _) => user,
            (None, Some(_)) => known(own_uid, identity::user(&own_uid.to_string())),
            (None, None) => return Ok(None),
        };
        Ok(Some(RunAs {
            uid: user.uid,
            gid: gid.or(user.gid).unwrap_or(own_gid),
            name: user.name,
            home: user.home,
        }))
    }
}

/// The user of a program, with this group or its own.
pub(in crate::config) fn run_as(text: &str, gid: Option<u32>) -> Result<RunAs, Invalid> {
    let user = with_group(text, gid, "give `group` as well")?;
    Ok(RunAs {
        uid: user.uid,
        gid: gid.or(user.gid).unwrap_or_default(),
        name: user.name,
        home: user.home,
    })
}

fn with_group(text: &str, gid: Option<u32>, remedy: &str) -> Result<Named, Invalid> {
    let user = user(text)?;
    match user.gid.or(gid) {
        Some(_) => Ok(user),
        None => Err(invalid(
            "this user is not in /etc/passwd, so its group is not known",
            remedy,
        )),
    }
}

/// `660`, `0660` or `0o660`.
fn mode(text: &str) -> Result<u32, Invalid> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o777 && digits.starts_with(|first: char| first.is_ascii_digit()))
        .ok_or(invalid(
            "these are no permissions",
            "give three octal digits, such as 660",
        ))?;
    // unix(7): connecting takes the permission to write.
    match mode & 0o222 {
        0 => Err(invalid(
            "only root could connect: that takes the permission to write",
            "give a mode with it, such as 660 or 666",
        )),
        _ => Ok(mode),
    }
}

/// `USER`, `USER:GROUP` or `:GROUP`, as chown(1) takes them.
fn owner(text: &str) -> Result<(Option<u32>, Option<u32>), Invalid> {
    let (name, of_group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let uid = match name {
        "" if of_group.is_some_and(|group| !group.is_empty()) => None,
        name => Some(user(name)?.uid),
    };
    let gid = of_group.filter(|name| !name.is_empty()).map(group);
    Ok((uid, gid.transpose()?))
}

/// A user by name or number, who may be missing in `/etc/passwd`.
struct Named {
    uid: u32,
    gid: Option<u32>,
    name: Option<String>,
    home: PathBuf,
}

fn known(uid: u32, user: Option<identity::User>) -> Named {
    match user {
        Some(user) => Named {
            uid,
            gid: Some(user.gid),
            name: Some(user.name),
            home: user.home,
        },
        None => Named {
            uid,
            gid: None,
            name: None,
            // Container engines do the same for a user without an entry.
            home: PathBuf::from("/"),
        },
    }
}

fn user(text: &str) -> Result<Named, Invalid> {
    match (identity::user(text), number(text)) {
        (Some(user), _) => Ok(known(user.uid, Some(user))),
        (None, Some(uid)) => Ok(known(uid, None)),
        (None, None) => Err(invalid(
            "there is no such user in /etc/passwd",
            "give the name of one that is there, or a number",
        )),
    }
}

pub(in crate::config) fn group(text: &str) -> Result<u32, Invalid> {
    number(text)
        .or_else(|| identity::group(text))
        .ok_or(invalid(
            "there is no such group in /etc/group",
            "give the name of one that is there, or a number",
        ))
}

/// The highest number means "unchanged" to the kernel, and belongs to no user.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Setup;

    #[test]
    fn users_and_groups_by_name_and_number() {
        let setup = Setup::new(&[("app.wsgi", "application = None")]);
        let run_as = |flags: &[&str]| {
            let flags = [&["--app", "app.wsgi"], flags].concat();
            let run_as = setup.config(&flags).run_as?;
            Some((run_as.uid, run_as.gid))
        };
        assert_eq!(run_as(&[]), None);
        assert_eq!(run_as(&["--uid", "root"]), Some((0, 0)));
        assert_eq!(run_as(&["--uid", "root", "--gid", "7"]), Some((0, 7)));
        assert_eq!(
            run_as(&["--uid", "4000000001", "--gid", "root"]),
            Some((4_000_000_001, 0))
        );
        assert_eq!(run_as(&["--gid", "5"]).map(|(_, gid)| gid), Some(5));
    }

    #[test]
    fn the_files_of_sockets_have_permissions_and_owners() {
        let setup = Setup::new(&[("app.wsgi", "application = None")]);
        let files = |flags: &[&str]| {
            let flags = [&["--app", "app.wsgi"], flags].concat();
            setup.config(&flags).socket_files
        };
        assert_eq!(files(&[]), super::SocketFiles::default());
        for (text, mode) in [("660", 0o660), ("0666", 0o666), ("0o700", 0o700)] {
            assert_eq!(files(&["--bind-mode", text]).mode, Some(mode));
        }
        for (text, owner) in [
            ("root", (Some(0), None)),
            ("root:7", (Some(0), Some(7))),
            (":root", (None, Some(0))),
            ("12:", (Some(12), None)),
        ] {
            assert_eq!(files(&["--bind-owner", text]).owner, Some(owner), "{text}");
        }
        for (flag, text, part) in [
            ("--bind-mode", "rw-rw----", "octal"),
            ("--bind-mode", "1777", "octal"),
            ("--bind-mode", "+660", "octal"),
            ("--bind-mode", "0", "only root could connect"),
            ("--bind-mode", "0555", "only root could connect"),
            ("--bind-owner", "no such user:root", "/etc/passwd"),
            ("--bind-owner", "root:no such group", "/etc/group"),
            ("--bind-owner", ":", "/etc/passwd"),
        ] {
            let error = setup.error(&["--app", "app.wsgi", flag, text]);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_nobody_is_called_is_refused_with_a_remedy() {
        let setup = Setup::new(&[("app.wsgi", "application = None")]);
        for (flags, part) in [
            (["--uid", "4000000001"], "give --gid as well"),
            (["--uid", "no such user"], "/etc/passwd"),
            (["--gid", "no such group"], "/etc/group"),
            (["--uid", "4294967295"], "/etc/passwd"),
        ] {
            let error = setup.error(&[&["--app", "app.wsgi"], &flags[..]].concat());
            assert!(error.contains(part), "{error}");
        }
    }
}
