//! The environment as a layer of settings: `PYSERVE_MAX_BODY=1G`.
//!
//! A repeatable setting takes several values between commas or white space. An empty variable
//! counts as unset, because `${VARIABLE:-}` in a compose file makes those. White space and one pair of quotes
//! around a value are no part of it: files with variables keep them (`docker run --env-file`). An unknown `PYSERVE_*`
//! variable causes a warning, not an error: a container inherits variables from its host.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::foreign::counterpart;
use super::layers::{Layer, SettingOrigin};
use super::settings::{self, PREFIX};
use super::{native, suggest};

/// The process id of the server that the prestart scripts started: they have been sourced.
pub const PRESTARTED: &str = "PYSERVE_PRESTARTED";

/// Variables of other images and of platforms that give settings.
const OF_IMAGES: [&str; 22] = [
    "APP_CONFIG",
    "APP_FILE",
    "APP_HOME",
    "APP_MODULE",
    "APP_SCRIPT",
    "DISABLE_MIGRATE",
    "GUNICORN_CMD_ARGS",
    "LISTEN_PORT",
    "NGINX_MAX_UPLOAD",
    "NGINX_WORKER_CONNECTIONS",
    "NGINX_WORKER_OPEN_FILES",
    "NGINX_WORKER_PROCESSES",
    "PORT",
    "PRE_START_PATH",
    "STATIC_INDEX",
    "STATIC_PATH",
    "STATIC_URL",
    "UWSGI_CHEAPER",
    "UWSGI_INI",
    "UWSGI_INI_DIR",
    "UWSGI_PROCESSES",
    "WEB_CONCURRENCY",
];

/// The variables of a process, or of a test. Of one that gives a setting, an empty value counts as unset, and
/// white space and one pair of quotes around the value are removed.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// Names of variables whose quotes were removed.
    unquoted: Vec<String>,
}

impl Environment {
    /// The variables of this process.
    pub fn of_this_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value of a variable, also an empty one, as text ([`native`]).
    pub fn raw(&self, name: &str) -> Option<String> {
        self.variables
            .get(OsStr::new(name))
            .map(|value| native::text(value))
    }

    /// Every variable whose name is text, with its value as in [`Self::raw`].
    pub fn all(&self) -> impl Iterator<Item = (String, String)> + use<'_> {
        let text = |(name, value): (&OsString, &OsString)| {
            Some((name.to_str()?.to_owned(), native::text(value)))
        };
        self.variables.iter().filter_map(text)
    }

    /// The same with more variables.
    #[must_use]
    pub fn with(&self, variables: &[(String, String)]) -> Self {
        let mut all = self.clone();
        for (name, value) in variables {
            all.variables.insert(name.into(), native::string(value));
        }
        all
    }

    /// The value of a variable, unless it is empty.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    fn tidy(&mut self) {
        let own = settings::all().filter(|setting| !setting.may_have_quotes());
        let own = own.map(settings::Setting::variable);
        for name in OF_IMAGES.iter().map(ToString::to_string).chain(own) {
            let given = self.variables.get(OsStr::new(&name));
            let Some(given) = given.and_then(|value| value.to_str()) else {
                continue;
            };
            let trimmed = given.trim();
            let value = without_quotes(trimmed);
            if value.len() < trimmed.len() {
                self.unquoted.push(name.clone());
            }
            match value.to_owned() {
                value if value.is_empty() => self.variables.remove(OsStr::new(&name)),
                value => self.variables.insert(name.into(), value.into()),
            };
        }
    }
}

/// The text between two quotes that enclose all of it, without white space around it; else the text itself.
fn without_quotes(text: &str) -> &str {
    let inside = |quote: char| {
        let inside = text.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inside.contains(quote)).then_some(inside.trim())
    };
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        let mut environment = Self {
            variables: variables.collect(),
            unquoted: Vec::new(),
        };
        environment.tidy();
        environment
    }
}

/// Reads the settings from the environment, with a warning for each unknown `PYSERVE_*` variable.
pub fn layer(environment: &Environment) -> (Layer, Vec<String>) {
    let mut layer = Layer::default();
    for setting in settings::all() {
        let variable = setting.variable();
        let Some(value) = environment.variable(&variable) else {
            continue;
        };
        let value = native::text(value);
        let values: Vec<String> = if setting.repeatable {
            value
                .split(|c: char| match setting.is_a_line() {
                    true => c == '\n',
                    false => c == ',' || c.is_whitespace(),
                })
                .filter(|value| !value.trim().is_empty())
                .map(str::to_owned)
                .collect()
        } else {
            vec![value]
        };
        if !values.is_empty() {
            layer.insert(setting, values, SettingOrigin::Variable(variable));
        }
    }
    (layer, warnings(environment))
}

fn warnings(environment: &Environment) -> Vec<String> {
    let names = settings::all().map(|setting| setting.name);
    let unquoted = environment.unquoted.iter().map(|name| {
        format!("the value of the variable {name} has quotes around it, which are left out (write {name}=VALUE without them)")
    });
    let unknown = environment
        .variables
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?, value.to_string_lossy())))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .filter(|(name, _)| *name != PRESTARTED)
        .filter(|(name, _)| settings::all().all(|setting| setting.variable() != *name))
        .filter(|(name, value)| !is_of_kubernetes_service(name, value))
        .map(|(name, _)| {
            let hint = match name {
                "PYSERVE_PORT" | "PYSERVE_HOST" => {
                    "the address is PYSERVE_BIND, the port alone PORT".to_owned()
                }
                // Without the prefix: its letters would make every pair look alike.
                _ => match suggest::closest(&name[PREFIX.len()..], names.clone()) {
                    Some(meant) => format!("did you mean {PREFIX}{}?", meant.to_ascii_uppercase()),
                    None => counterpart(&name[PREFIX.len()..].to_ascii_lowercase())
                        .unwrap_or("`pyserve --help` lists the settings")
                        .to_owned(),
                },
            };
            format!("the variable {name} is no setting and has no effect ({hint})")
        });
    unquoted.chain(unknown).collect()
}

/// True if Kubernetes set the variable for a Service whose name begins with "pyserve" (Kubernetes,
/// "Service: Discovering services"; Docker's links have the same shapes).
fn is_of_kubernetes_service(name: &str, value: &str) -> bool {
    let is_port_number =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_port_protocol = name.rsplit_once("_PORT_").is_some_and(|(_, rest)| {
        // `8000_TCP` of PYSERVE_PORT_8000_TCP; with _PORT behind it the split was there.
        rest.split_once('_')
            .is_some_and(|(port, rest)| is_port_number(port) && !rest.is_empty())
    });
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
        || is_port_protocol
        || (name.ends_with("_PORT")
            && is_of_kubernetes_service(name.trim_end_matches("_PORT"), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn read(variables: &[(&str, &str)]) -> (Layer, Vec<String>) {
        layer(&variables.iter().copied().collect())
    }

    #[test]
    fn variables_become_settings() {
        let (layer, warnings) = read(&[
            ("PYSERVE_WORKERS", "4"),
            ("PYSERVE_BIND", "8000, unix:/a\n:80,"),
            ("PYSERVE_TRUST", ""),
            ("PYSERVE_STATIC", " ,"),
            ("PYSERVE_CHDIR", "/with space"),
            ("WORKERS", "5"),
        ]);
        let values = |name: &str| layer.entry(name).map(|entry| entry.values.join("|"));
        assert_eq!(values("workers").as_deref(), Some("4"));
        assert_eq!(values("bind").as_deref(), Some("8000|unix:/a|:80"));
        assert_eq!(values("chdir").as_deref(), Some("/with space"));
        assert_eq!(values("trust"), None);
        assert_eq!(values("static"), None);
        assert_eq!(
            layer.entry("workers").unwrap().origin,
            SettingOrigin::Variable("PYSERVE_WORKERS".into())
        );
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn values_lose_white_space_and_quotes_around_them() {
        let check = |given: &str, expected: Option<&str>, is_warned: bool| {
            let environment: Environment = [("LISTEN_PORT", given)].into_iter().collect();
            assert_eq!(
                environment.raw("LISTEN_PORT").as_deref(),
                expected,
                "{given:?}"
            );
            let (_, warnings) = layer(&environment);
            let said = warnings.iter().any(|text| text.contains("LISTEN_PORT"));
            assert_eq!(said, is_warned, "{given:?}: {warnings:?}");
        };
        check("8080", Some("8080"), false);
        check(" 8080\r\n", Some("8080"), false);
        check("\"8080\"", Some("8080"), true);
        check(" ' 8080 ' ", Some("8080"), true);
        for empty in ["", " \t", "\"\"", "' '"] {
            check(empty, None, empty.contains(['"', '\'']));
        }
        let own = [
            ("PYSERVE_MAX_BODY", "\"1G\" "),
            ("PYSERVE_APP", "a:b\r"),
            ("PYSERVE_TRUST", "''"),
        ];
        let (own, warnings) = read(&own);
        let value = |name: &str| own.entry(name).map(|entry| entry.values.join("|"));
        assert_eq!(value("max_body").as_deref(), Some("1G"));
        assert_eq!(value("app").as_deref(), Some("a:b"));
        assert_eq!(value("trust"), None);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        // A pattern may begin and end with a quote.
        let (own, _) = read(&[("PYSERVE_ACCESS_LOG_FORMAT", "\"%(r)s\"")]);
        let value = &own.entry("access_log_format").unwrap().values[0];
        assert_eq!(value, "\"%(r)s\"");
        for other in ["\"", "\"8080", "'8080\"", "\"a\" \"b\""] {
            check(other, Some(other), false);
        }
        let other = [("GREETING", "\" hi \"")]
            .into_iter()
            .collect::<Environment>();
        assert_eq!(other.raw("GREETING").as_deref(), Some("\" hi \""));
    }

    #[test]
    fn a_misspelt_variable_is_warned_about() {
        let check = |name: &str, hint: &str| {
            let (_, warnings) = read(&[(name, "8000")]);
            assert_eq!(warnings.len(), 1, "{name}");
            assert!(
                warnings[0].contains(name) && warnings[0].contains(hint),
                "{warnings:?}"
            );
        };
        check("PYSERVE_WROKERS", "PYSERVE_WORKERS");
        check("PYSERVE_MAXBODY", "PYSERVE_MAX_BODY");
        check("PYSERVE_PORT", "PYSERVE_BIND");
        check("PYSERVE_FRUIT", "--help");
    }

    #[test]
    fn variables_that_kubernetes_injects_are_ignored() {
        let (_, warnings) = read(&[
            ("PYSERVE_PORT", "tcp://10.0.0.11:8000"),
            ("PYSERVE_PORT_8000_TCP", "tcp://10.0.0.11:8000"),
            ("PYSERVE_PORT_8000_TCP_ADDR", "10.0.0.11"),
            ("PYSERVE_PORT_8000_TCP_PORT", "8000"),
            ("PYSERVE_PORT_8000_TCP_PROTO", "tcp"),
            ("PYSERVE_SERVICE_HOST", "10.0.0.11"),
            ("PYSERVE_SERVICE_PORT", "8000"),
            ("PYSERVE_SERVICE_PORT_HTTP", "8000"),
            ("PYSERVE_STATIC_SERVICE_HOST", "10.0.0.12"),
            ("PYSERVE_STATIC_PORT_80_TCP", "tcp://10.0.0.12:80"),
        ]);
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn a_variable_that_is_not_utf8_keeps_its_bytes() {
        let name = OsStr::from_bytes(b"/srv/\xff");
        let (layer, _) = layer(&[("PYSERVE_CHDIR", name)].into_iter().collect());
        let value = &layer.entry("chdir").unwrap().values[0];
        assert_eq!(native::path(value), name);
    }
}
