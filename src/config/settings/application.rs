//! The application and its interpreter.

use super::{Default, Setting};

const PYTHON_HEADING: &str = "Python";
const APPLICATION_HEADING: &str = "Application";

/// Under the heading [`APPLICATION_HEADING`].
pub(super) static APPLICATION: &[Setting] = &[
    Setting {
        name: "app",
        value_name: "MODULE|FILE[:CALLABLE]",
        heading: APPLICATION_HEADING,
        help: "The WSGI application: a module (`mysite.wsgi`) or a file (`app.py`), followed by the \
               name of the callable unless that is `application` or `app`; `app:create_app()` calls \
               a factory, which may have literals as arguments",
        repeatable: false,
        default: Default::Computed(
            "found: Django by manage.py or */wsgi.py, Flask by application.py, app.py, main.py, wsgi.py, index.py",
        ),
    },
    Setting {
        name: "chdir",
        value_name: "DIR",
        heading: APPLICATION_HEADING,
        help: "Directory of the application: its current directory, the first entry of sys.path, \
               and the base of relative paths in the other settings",
        repeatable: false,
        default: Default::Computed("the current directory"),
    },
    Setting {
        name: "env",
        value_name: "NAME=VALUE",
        heading: APPLICATION_HEADING,
        help: "Environment variable of the applications, of companions and of `before_start`; \
               repeatable",
        repeatable: true,
        default: Default::None,
    },
];

/// Under the heading [`PYTHON_HEADING`].
pub(super) static PYTHON: &[Setting] = &[
    Setting {
        name: "python",
        value_name: "FILE",
        heading: PYTHON_HEADING,
        help: "Interpreter that runs the application: a path, or a name to look up on PATH",
        repeatable: false,
        default: Default::Computed(
            "the first of: the environment pyserve is installed in, VIRTUAL_ENV, ./.venv, python3 beside pyserve, python3 on PATH",
        ),
    },
    Setting {
        name: "venv",
        value_name: "DIR",
        heading: PYTHON_HEADING,
        help: "Virtual or conda environment whose interpreter runs the application",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "uwsgi_module",
        value_name: "yes|no",
        heading: PYTHON_HEADING,
        help: "Let the application `import uwsgi` and `uwsgidecorators`: cache, locks and facts as under uWSGI; \
               on if pyserve is called as `uwsgi`",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "uwsgi_cache",
        value_name: "BYTES",
        heading: PYTHON_HEADING,
        help: "With `uwsgi_module`: memory for what its `cache_*` functions keep, of all applications together",
        repeatable: false,
        default: Default::Value("16M"),
    },
    Setting {
        name: "pythonpath",
        value_name: "DIR",
        heading: PYTHON_HEADING,
        help: "Directory to add to sys.path, after the `chdir`; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "import",
        value_name: "MODULE|FILE",
        heading: PYTHON_HEADING,
        help: "Module or file to import before the application, in the order given; if it raises, that is logged, \
               and the application is imported all the same; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "argv",
        value_name: "WORD",
        heading: PYTHON_HEADING,
        help: "Word of sys.argv, of which the first is the name of the program (`argv[0]`); repeatable",
        repeatable: true,
        default: Default::Computed("the module or file of `app`"),
    },
];
