//! Options whose values have a secret in them that no name tells.

/// The secrets in the value of this option.
pub(super) fn of_option(key: &str, value: &str) -> Vec<String> {
    let found = match key {
        // `NAME ADDRESS VALOR ALGORITHM:SECRET`.
        "legion" | "legion-mcast" => {
            let last = value.split_whitespace().nth(3);
            last.and_then(|last| last.split_once(':'))
                .map(|(_, secret)| secret)
        }
        // `NAME xmpp:USER;PASSWORD;RECIPIENTS`.
        "alarm" => value
            .split_once("xmpp:")
            .and_then(|(_, account)| account.split(';').nth(1)),
        // `redislog:ADDRESS,auth SECRET,…`.
        _ if key.ends_with("logger") && value.contains("redislog") => value
            .split_once("auth ")
            .and_then(|(_, rest)| rest.split(',').next()),
        _ => None,
    };
    let found = found.map(str::trim).filter(|secret| !secret.is_empty());
    found.map(str::to_owned).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_legions_alarms_and_loggers_are_found() {
        for (key, value, expected) in [
            (
                "legion",
                "a 225.1.1.1:1967 98 bf-cbc:hidden",
                Some("hidden"),
            ),
            ("legion-node", "a 225.1.1.1:1967", None),
            ("alarm", "mail xmpp:bot@x;hidden;ops@x", Some("hidden")),
            ("alarm", "mail cmd:a;b", None),
            (
                "logger",
                "redislog:127.0.0.1:6379,auth hidden",
                Some("hidden"),
            ),
            ("req-logger", "r redislog:h:1,auth hidden,x", Some("hidden")),
            ("logger", "file:/tmp/auth b", None),
        ] {
            let found = of_option(key, value);
            assert_eq!(
                found.first().map(String::as_str),
                expected,
                "{key} = {value}"
            );
        }
    }
}
