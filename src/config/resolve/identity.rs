//! As whom the server runs once its addresses are bound.

use std::path::PathBuf;

use super::Resolver;
use crate::config::RunAs;
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::os::identity;

impl Resolver<'_> {
    pub(super) fn run_as(&mut self) -> Result<Option<RunAs>, ConfigError> {
        let gid = self.optional("gid", group)?;
        let user = self.optional("uid", |text| {
            let user = user(text)?;
            match user.gid.or(gid) {
                Some(_) => Ok(user),
                None => Err(invalid(
                    "this user is not in /etc/passwd, so its group is not known",
                    "give --gid as well",
                )),
            }
        })?;
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

/// A user, who may be nobody that `/etc/passwd` knows.
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
            // What container engines give a user without an entry.
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

fn group(text: &str) -> Result<u32, Invalid> {
    number(text)
        .or_else(|| identity::group(text))
        .ok_or(invalid(
            "there is no such group in /etc/group",
            "give the name of one that is there, or a number",
        ))
}

/// The highest number means "as it is" to the kernel, and is nobody's.
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
