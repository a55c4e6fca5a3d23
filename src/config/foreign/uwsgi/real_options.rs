//! The options of a file with their values, beside those that uWSGI itself has read.
//!
//! The values expected were printed by `uwsgi --show-config` of uWSGI 2.0.31, whose working directory held the
//! files of [`FILES`].

use super::tests::with_files;
use super::{Form, Sources, options_of};

/// Other files that the cases name.
const FILES: &[(&str, &str)] = &[
    ("val.txt", "from file\n"),
    ("lines.txt", "one\ntwo\n"),
    (
        "inc.ini",
        "[uwsgi]\nenv = IN=%n %x\n[other]\nenv = OTHER=%x\n[web]\nini = :other\nenv = WEB=1\n",
    ),
];

struct Case {
    /// The name of the file, without its ending.
    name: &'static str,
    form: Form,
    variables: &'static [(&'static str, &'static str)],
    text: &'static str,
    /// What uWSGI prints.
    options: &'static str,
}

#[test]
fn options_have_the_values_that_uwsgi_prints() {
    let mut wrong = Vec::new();
    for case in CASES {
        let ending = match case.form {
            Form::Ini => "ini",
            Form::Yaml => "yaml",
            Form::Json => "json",
            Form::Xml => "xml",
        };
        let name = format!("{}.{ending}", case.name);
        let sources = Sources {
            variables: true,
            command_line: Vec::new(),
            files: vec![(name.clone(), case.form)],
        };
        let mut files = FILES.to_vec();
        files.push((&name, case.text));
        let options = with_files(&files, case.variables, |around| {
            options_of(&sources, around)
        });
        let shown = options.items.iter().map(|item| {
            let value = item.value.as_deref().unwrap_or_default();
            format!("{} = {value}", item.key)
        });
        let shown: Vec<_> = shown.collect();
        let shown = shown.join("\n");
        if shown != case.options {
            let (name, expected) = (case.name, case.options);
            wrong.push(format!("--- {name}\n{shown}\n--- expected\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const CASES: &[Case] = &[
    Case {
        name: "atoi",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nprocesses = 4 # four\nthreads = 2;x\nbuffer-size = 32768k\nharakiri = 0x10\n",
        options: "processes = 4 # four\nthreads = 2;x\nbuffer-size = 32768k\nharakiri = 0x10",
    },
    Case {
        name: "magic_end",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv = A=50%",
        options: "env = A=50",
    },
    Case {
        name: "paren",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\na = 5\nenv = B=%(a - 1)\nenv = C=%(a)\nenv = D=%(a + 2 * 3)\nenv = E=%(a ++)\nenv = F=%(nope)\nenv = G=%(a / 0)\nenv=H=%( a )\nenv=I=%(a -1)\nenv=J=%(a 7)\nenv=K=%(7 - a)\nenv=L=%(a -- )\n",
        options: "a = 5\nenv = B=4\nenv = C=5\nenv = D=21\nenv = E=6\nenv = F=%(nope)\nenv = G=0\nenv = H=5\nenv = I=5\nenv = J=57\nenv = K=2\nenv = L=4",
    },
    Case {
        name: "nested",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\na = b\nb = 3\nenv = A=%(%(a))\nenv = B=%%(a)\nenv = C=$(%(a))\n",
        options: "a = b\nb = 3\nenv = A=3\nenv = B=b\nenv = C=$(b)",
    },
    Case {
        name: "env",
        form: Form::Ini,
        variables: &[("FOO", "bar")],
        text: "[uwsgi]\nenv = A=$(FOO)\nenv = B=$(NOPE)\nenv = C=$FOO\nenv = D=${FOO}\nenv = E=$$(FOO)\nenv = F=$(FOO)$(FOO)\n",
        options: "env = A=bar\nenv = B=$(NOPE)\nenv = C=$FOO\nenv = D=${FOO}\nenv = E=$bar\nenv = F=barbar",
    },
    Case {
        name: "env_in_env",
        form: Form::Ini,
        variables: &[("FOO", "$(BAR)"), ("BAR", "%(x)")],
        text: "[uwsgi]\nenv = A=$(FOO)\n",
        options: "env = A=%(x)",
    },
    Case {
        name: "atfile",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv = A=@(val.txt)\nenv = B=x@(val.txt)y\n",
        options: "env = A=from file\nenv = B=xfrom filey",
    },
    Case {
        name: "quotes",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv = \"A=b c\"\nenv = 'X=y'\nmodule = \"app\"\n",
        options: "env = \"A=b c\"\nenv = 'X=y'\nmodule = \"app\"",
    },
    Case {
        name: "comments",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\n; c\n# c\n   ; c\nmodule = app ; no\nthreads = 2 # x\n;module = z\n",
        options: "module = app ; no\nthreads = 2 # x",
    },
    Case {
        name: "bare",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nmaster\nvacuum =\nenable-threads=\nlazy-apps = false\nthunder-lock = FALSE\nneed-app = off \n",
        options: "master = \nvacuum = \nenable-threads = \nlazy-apps = false\nthunder-lock = FALSE\nneed-app = off",
    },
    Case {
        name: "ifenv",
        form: Form::Ini,
        variables: &[("FOO", "bar")],
        text: "[uwsgi]\nif-env = FOO\nenv = A=%(_)\nendif =\nif-env = FOO=bar\nenv = B=%(_)\nendif =\nif-env = FOO=no\nenv = C=%(_)\nendif =\nif-not-env = NOPE\nenv = D=%(_)\nendif =\nif-not-env = FOO=x\nenv = E=%(_)\nendif =\nif-not-env = FOO\nenv = F=%(_)\nendif=\n",
        options: "if-env = FOO\nenv = A=bar\nendif = \nif-env = FOO=bar\nenv = B=bar\nendif = \nif-env = FOO=no\nendif = \nif-not-env = NOPE\nenv = D=%(_)\nendif = \nif-not-env = FOO=x\nenv = E=bar\nendif = \nif-not-env = FOO\nendif = ",
    },
    Case {
        name: "iffile",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nif-file = val.txt\nenv = A=%(_)\nendif =\nif-dir = .\nenv = B=%(_)\nendif =\nif-not-exists = nope\nenv = C=%(_)\nendif =\nif-exists = nope\nenv = D=1\nendif =\nif-dir = val.txt\nenv = E=1\nendif=\nifexists = val.txt\nenv = G=1\nendif=\n",
        options: "if-file = val.txt\nenv = A=val.txt\nendif = \nif-dir = .\nenv = B=.\nendif = \nif-not-exists = nope\nenv = C=nope\nendif = \nif-exists = nope\nendif = \nif-dir = val.txt\nendif = \nifexists = val.txt\nenv = G=1\nendif = ",
    },
    Case {
        name: "ifopt",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nthreads = 2\nif-opt = threads\nenv = A=%(_)\nendif =\nif-opt = threads=2\nenv = B=%(_)\nendif =\nif-opt = threads=3\nenv = C=%(_)\nendif =\nif-not-opt = processes\nenv = D=%(_)\nendif=\nif-not-opt = threads=3\nenv = E=%(_)\nendif=\n",
        options: "threads = 2\nif-opt = threads\nenv = A=2\nendif = \nif-opt = threads=2\nenv = B=2\nendif = \nif-opt = threads=3\nendif = \nif-not-opt = processes\nenv = D=%(_)\nendif = \nif-not-opt = threads=3\nenv = E=2\nendif = ",
    },
    Case {
        name: "for",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nfor = a b  c\nenv = %(_)=%(_)\nendfor =\nfor-times = 2\nenv = T%(_)=1\nend-for =\nfor-readline = lines.txt\nenv = R%(_)=1\nend =\n",
        options: "for = a b  c\nenv = a=a\nenv = b=b\nenv = c=c\nendfor = \nfor-times = 2\nenv = T1=1\nenv = T2=1\nend-for = \nfor-readline = lines.txt\nenv = Rone=1\nenv = Rtwo=1\nend = ",
    },
    Case {
        name: "section",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nini = :other\nthreads = 2\n[other]\nenv = A=%x|%X\nthreads = 3\n",
        options: "ini = :other\nenv = A=other|\nthreads = 3\nthreads = 2",
    },
    Case {
        name: "section2",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nini = inc.ini:web\ninclude = inc.ini\nenv = A=%n|%x\n",
        options: "ini = inc.ini:web\nini = :other\nenv = OTHER=other\nenv = WEB=1\ninclude = inc.ini\nenv = IN=inc\nenv = A=section2|",
    },
    Case {
        name: "sectionspace",
        form: Form::Ini,
        variables: &[],
        text: "[ uwsgi ]\nthreads = 1\n[uwsgi] ; x\nthreads = 2\n[uwsgi]\nthreads = 3\n[uwsgi]\nenv = again=1\n",
        options: "threads = 3\nenv = again=1",
    },
    Case {
        name: "repeat",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nthreads = 1\nthreads = 2\nenv = A=1\nenv = A=2\nx = 1\nx = 2\nenv = X=%(x)\n",
        options: "threads = 1\nthreads = 2\nenv = A=1\nenv = A=2\nx = 1\nx = 2\nenv = X=1",
    },
    Case {
        name: "placeholder",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nset-placeholder = p=1\nset-ph = q=%(p)2\nset = r=3\nset = threads=7\nenv = A=%(p)%(q)%(r)\n",
        options: "set-placeholder = p=1\np = 1\nset-ph = q=%(p)2\nq = %(p)2\nset = r=3\nr = 3\nset = threads=7\nthreads = 7\nenv = A=1123",
    },
    Case {
        name: "underscore",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenable_threads = 1\nbuffer_size = 3\n",
        options: "enable_threads = 1\nbuffer_size = 3",
    },
    Case {
        name: "uvars",
        form: Form::Ini,
        variables: &[
            ("UWSGI_THREADS", "9"),
            ("UWSGI_ENV", "A=1"),
            ("UWSGI_LAZY_APPS", ""),
            ("UWSGI_FOO_BAR", "x"),
        ],
        text: "[uwsgi]\nthreads = 3\n",
        options: "env = A=1\nfoo-bar = x\nlazy-apps = \nthreads = 9\nthreads = 3",
    },
    Case {
        name: "uvars2",
        form: Form::Ini,
        variables: &[("UWSGI_FOO_BAR", "x")],
        text: "[uwsgi]\nenv = A=%(foo-bar)\n",
        options: "foo-bar = x\nenv = A=x",
    },
    Case {
        name: "cont",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nmodule = a\\\nb\nenv = A=x \\\n  y\n",
        options: "module = a\\\nb = \nenv = A=x \\\ny = ",
    },
    Case {
        name: "crlf",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\r\nmodule = app\r\nenv = A=b\r\n",
        options: "module = app\nenv = A=b",
    },
    Case {
        name: "spaces",
        form: Form::Ini,
        variables: &[],
        text: "  [uwsgi]\n\tmodule\t=\tapp\t\n  env=A = b = c  \n= x\n",
        options: "module = app\nenv = A = b = c\n = x",
    },
    Case {
        name: "colon",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nmodule: app\nthreads 4\nprocesses : 2\n",
        options: "module: app = \nthreads 4 = \nprocesses : 2 = ",
    },
    Case {
        name: "listen",
        form: Form::Ini,
        variables: &[("FOO", "022")],
        text: "[uwsgi]\na = 5\nlisten = %(a)\numask = $(FOO)\n",
        options: "a = 5\nlisten = %(a)\numask = $(FOO)",
    },
    Case {
        name: "yaml4",
        form: Form::Yaml,
        variables: &[],
        text: "---\nother:\n  threads: 1\nuwsgi:\n  threads: 2\n",
        options: "threads = 2",
    },
    Case {
        name: "xml",
        form: Form::Xml,
        variables: &[],
        text: "<uwsgi><threads>2</threads><master/><env>A=%n</env><!-- c --><env> B=1 </env></uwsgi>",
        options: "threads = 2\nmaster = 1\nenv = A=xml\nenv =  B=1 ",
    },
];
