//! Access to locations: networks that are allowed or denied, and passwords.
//!
//! As in nginx (`allow`, `deny`, `satisfy`, `auth_basic`): the first rule that matches an address
//! decides; an address that no rule matches is allowed.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::error::{Invalid, invalid};
use super::trust::Trust;

/// The conditions under which the requests of a location are answered. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessSettings {
    /// In their order; empty for every address.
    pub rules: AccessRules,
    /// The password file; `None` for no password.
    pub basic_auth: Option<BasicAuth>,
    /// The conditions that have to hold, where there are rules and a password file.
    pub satisfy: Satisfy,
}

/// HTTP Basic authentication (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// The password file (Apache: `htpasswd`); absolute.
    pub file: PathBuf,
    /// The name that browsers show; printable, without quotes and backslashes.
    pub realm: String,
}

/// The conditions that have to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Satisfy {
    /// The address is allowed and the password is right.
    #[default]
    All,
    /// The address is allowed or the password is right.
    Any,
}

/// Rules for addresses, the first of which decides that matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessRules(Vec<AccessRule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct AccessRule {
    allows: bool,
    clients: Clients,
}

/// The clients of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Clients {
    All,
    These(Trust),
}

impl AccessRules {
    /// Reads words: `allow` or `deny`, followed by one or more networks, addresses, `unix` and
    /// `all`, and so on.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let remedy =
            "give rules as in `allow 10.0.0.0/8 ::1`, `deny all`; the first that matches decides";
        let mut rules = Vec::new();
        let mut verb = None;
        let mut is_complete = true;
        for word in text.split(|c: char| c.is_whitespace() || c == ',' || c == ';') {
            match word {
                "" => {}
                "allow" | "deny" if !is_complete => {
                    return Err(invalid("a rule has no network", remedy));
                }
                "allow" | "deny" => (verb, is_complete) = (Some(word == "allow"), false),
                client => {
                    let allows = verb.ok_or_else(|| {
                        invalid("a rule begins with neither `allow` nor `deny`", remedy)
                    })?;
                    let clients = Clients::parse(client, remedy)?;
                    rules.push(AccessRule { allows, clients });
                    is_complete = true;
                }
            }
        }
        match is_complete {
            true => Ok(Self(rules)),
            false => Err(invalid("a rule has no network", remedy)),
        }
    }

    /// True if there are no rules.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if a client at this address is allowed; `None` is the peer on a Unix socket.
    pub fn allow(&self, address: Option<IpAddr>) -> bool {
        let matching = self.0.iter().find(|rule| match &rule.clients {
            Clients::All => true,
            Clients::These(clients) => clients.trusts(address),
        });
        matching.is_none_or(|rule| rule.allows)
    }
}

impl Clients {
    fn parse(text: &str, remedy: &str) -> Result<Self, Invalid> {
        if text == "all" {
            return Ok(Self::All);
        }
        let mut clients = Trust::default();
        // nginx writes `unix:`.
        let text = if text == "unix:" { "unix" } else { text };
        match clients.add(text) {
            Ok(()) => Ok(Self::These(clients)),
            Err(_) if text.contains('*') => {
                Err(invalid("`*` is no network", "give `all` for every client"))
            }
            Err(error) if error.problem.contains("prefix length") => Err(error),
            Err(error) => Err(invalid(format!("{text:?}: {}", error.problem), remedy)),
        }
    }
}

impl fmt::Display for AccessSettings {
    /// ` (by address and password)`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.basic_auth.as_ref().map(|auth| auth.file.display());
        match (self.rules.is_empty(), password, self.satisfy) {
            (true, None, _) => Ok(()),
            (false, None, _) => f.write_str(" (by address)"),
            (true, Some(file), _) => write!(f, " (by password of {file})"),
            (false, Some(file), Satisfy::All) => write!(f, " (by address, and password of {file})"),
            (false, Some(file), Satisfy::Any) => write!(f, " (by address, or password of {file})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        // The example of nginx's documentation (ngx_http_access_module), and more.
        let nginx = "deny 192.168.1.1, allow 192.168.1.0/24, allow 10.1.1.0/16, allow 2001:0db8::/32, deny all";
        for (rules, address, expected) in [
            (nginx, "192.168.1.1", false),
            (nginx, "192.168.1.2", true),
            (nginx, "10.1.200.1", true),
            (nginx, "10.2.0.1", false),
            (nginx, "2001:db8::7", true),
            (nginx, "2001:db9::7", false),
            (nginx, "::ffff:192.168.1.2", true),
            (nginx, "unix", false),
            ("", "192.0.2.1", true),
            ("", "unix", true),
            ("deny 192.0.2.1", "192.0.2.2", true),
            ("deny 192.0.2.0/24 unix", "unix", false),
            ("deny 0.0.0.0/0 ::/0", "unix", true),
            ("allow unix: deny all", "unix", true),
            ("allow unix deny all", "127.0.0.1", false),
            ("deny all allow 127.0.0.1", "127.0.0.1", false),
            ("allow ::ffff:10.0.0.0/104; deny all;", "10.2.3.4", true),
        ] {
            let parsed = AccessRules::parse(rules).unwrap();
            let address = (address != "unix").then(|| address.parse().unwrap());
            assert_eq!(parsed.allow(address), expected, "{rules} {address:?}");
        }
    }

    #[test]
    fn rules_that_are_none_are_refused_with_a_remedy() {
        for (text, problem) in [
            ("10.0.0.0/8", "neither `allow` nor `deny`"),
            ("allow", "no network"),
            ("allow deny all", "no network"),
            ("deny 10.0.0.0/33", "prefix length"),
            ("allow *", "`*` is no network"),
            ("allow host.example", "host.example"),
            ("permit all", "neither `allow` nor `deny`"),
        ] {
            let refused = AccessRules::parse(text).unwrap_err();
            assert!(refused.problem.contains(problem), "{text}: {refused:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(allow |deny |all |[0-9.:/]{0,12} |\\PC){0,8}") {
            let _ = AccessRules::parse(&text);
        }

        #[test]
        fn a_network_holds_its_own_addresses(address: std::net::IpAddr) {
            let only = AccessRules::parse(&format!("allow {address} deny all")).unwrap();
            prop_assert!(only.allow(Some(address)));
            prop_assert!(!only.allow(None));
        }
    }
}
