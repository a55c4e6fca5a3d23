//! Listeners, the user to run as, and trusted proxies.

use super::{Default, Setting};

const HEADING: &str = "Listening";

/// Under the heading [`HEADING`].
pub(super) static LISTENING: &[Setting] = &[
    Setting {
        name: "bind",
        value_name: "ADDR",
        heading: HEADING,
        help: "Address to listen on: `127.0.0.1:8000`, `[::]:8080`, `unix:/run/app.sock`; `8000` and \
               `:8000` mean every IPv4 interface; `https://0.0.0.0:443` with TLS; repeatable",
        repeatable: true,
        default: Default::Computed("127.0.0.1:8000, or 0.0.0.0:$PORT where PORT is set"),
    },
    Setting {
        name: "bind_mode",
        value_name: "MODE",
        heading: HEADING,
        help: "Permissions of Unix sockets to listen on, in octal as chmod takes them: `660`",
        repeatable: false,
        default: Default::Computed("as the umask leaves them"),
    },
    Setting {
        name: "bind_owner",
        value_name: "USER[:GROUP]",
        heading: HEADING,
        help: "Owner of Unix sockets to listen on, by name or number: `www-data:www-data`, `:web`; \
               only root can change the owner",
        repeatable: false,
        default: Default::Computed("the user and group that the server runs as"),
    },
    Setting {
        name: "trust",
        value_name: "CIDR,...",
        heading: HEADING,
        help: "Proxies whose X-Forwarded-*, Forwarded and X-Request-ID headers are trusted: \
               networks, addresses, and `unix` for peers on Unix sockets; from all other peers \
               these headers are removed; repeatable",
        repeatable: true,
        default: Default::Computed("none"),
    },
    Setting {
        name: "trust_fields",
        value_name: "FACT,...",
        heading: HEADING,
        help: "What the proxies of --trust may say, of `for`, `proto`, `host`, `port` and `prefix`, \
               and, where X-Forwarded-Proto is missing, `ssl` (X-Forwarded-Ssl: on) and `protocol` \
               (X-Forwarded-Protocol: ssl); other X-Forwarded-* headers of theirs change nothing here and are \
               passed on as they are; repeatable",
        repeatable: true,
        default: Default::Computed("all but `ssl` and `protocol`"),
    },
    Setting {
        name: "trust_header",
        value_name: "NAME",
        heading: HEADING,
        help: "The header in which the proxies of --trust name their client, such as X-Real-IP or \
               CF-Connecting-IP (nginx: `real_ip_header`); the addresses in X-Forwarded-For and Forwarded \
               then count for nothing, and other peers' headers of the name are removed",
        repeatable: false,
        default: Default::Computed("X-Forwarded-For, else Forwarded"),
    },
    Setting {
        name: "trust_hops",
        value_name: "N",
        heading: HEADING,
        help: "Most addresses of X-Forwarded-For, from the right, that are looked at for one that is not \
               trusted; 1 takes the last one (nginx: `real_ip_recursive off`)",
        repeatable: false,
        default: Default::Computed("all"),
    },
    Setting {
        name: "proxy_protocol",
        value_name: "CIDR,...",
        heading: HEADING,
        help: "Load balancers that begin each connection with a PROXY header, version 1 or 2, as \
               networks, addresses, and `unix`: required from these peers, rejected from others; \
               repeatable",
        repeatable: true,
        default: Default::Computed("none"),
    },
    Setting {
        name: "uid",
        value_name: "USER",
        heading: HEADING,
        help: "User to run as once the addresses are bound, by name or number; for root only, and \
               irreversible",
        repeatable: false,
        default: Default::Computed("the user that starts it"),
    },
    Setting {
        name: "gid",
        value_name: "GROUP",
        heading: HEADING,
        help: "Group to run as, by name or number, without supplementary groups",
        repeatable: false,
        default: Default::Computed("the group of `uid`"),
    },
    Setting {
        name: "umask",
        value_name: "MODE",
        heading: HEADING,
        help: "Permissions that new files of the server and the application do not get, in octal: `022`",
        repeatable: false,
        default: Default::Computed("that of the process that starts it"),
    },
    Setting {
        name: "server_header",
        value_name: "yes|no",
        heading: HEADING,
        help: "Send `Server: pyserve` with responses",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "front_threads",
        value_name: "N",
        heading: HEADING,
        help: "Threads for HTTP; a server of files alone can use one for each CPU",
        repeatable: false,
        default: Default::Computed("half of the CPUs, from 1 to 8"),
    },
];
