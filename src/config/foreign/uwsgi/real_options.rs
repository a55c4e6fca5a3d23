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
    ("sub/two.ini", "[uwsgi]\nenv = T=%s %S %n %N %d\n"),
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
    Case {
        name: "chain",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nprocesses = %(threads)\nthreads = 3\nx = %(y)\ny = %(z)\nz = 7\nenv = A=%(x)\n",
        options: "processes = 3\nthreads = 3\nx = %(z)\ny = 7\nz = 7\nenv = A=7",
    },
    Case {
        name: "order",
        form: Form::Ini,
        variables: &[("FOO", "bar")],
        text: "[uwsgi]\nenv = A=%(x)\nx = $(FOO)\nfoo = @(val.txt)\nenv = B=%(foo)\n",
        options: "env = A=bar\nx = bar\nfoo = from file\nenv = B=from file",
    },
    Case {
        name: "unclosed",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv = A=%%%%(x\nenv = B=$(FOO\nenv = C=@(x\nenv = D=%(\nenv = E=$()\nenv = F=%()x\nenv = G=%(a(b)c)\n",
        options: "env = A=%%(x\nenv = B=$(FOO\nenv = C=@(x\nenv = D=%(\nenv = E=$()\nenv = F=%()x\nenv = G=%(a(b)c)",
    },
    Case {
        name: "bracket",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]  \nthreads=1\n[uwsgi\nprocesses=2\n[uwsgi]x\nharakiri = 3\n[uwsgi]]\nlisten = 9\n",
        options: "threads = 1",
    },
    Case {
        name: "included",
        form: Form::Ini,
        variables: &[("FOO", "1")],
        text: "[uwsgi]\nif-env = FOO\nini = inc.ini:other\nendif =\nthreads = 1\n",
        options: "if-env = FOO\nini = inc.ini:other\nenv = OTHER=other\nendif = \nthreads = 1",
    },
    Case {
        name: "forkey",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nfor = a b\n%(_) = 1\nenv = X=%(_)%(_)\nendfor\nthreads = 2\n",
        options: "for = a b\n%(_) = 1\n%(_) = 1\nenv = X=aa\nenv = X=bb\nendfor = \nthreads = 2",
    },
    Case {
        name: "strictoff",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nstrict = false\nfoo = 1\n",
        options: "strict = false\nfoo = 1",
    },
    Case {
        name: "latin",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv = A=café 日\n; é\nenv = B=%(café)\ncafé = 1\n",
        options: "env = A=café 日\nenv = B=1\ncafé = 1",
    },
    Case {
        name: "tabs",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv\t=\t A=1 \t\n\tthreads=2\n#\tx\n",
        options: "env = A=1\nthreads = 2",
    },
    Case {
        name: "equals",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv = A==b=\nenv == B\n=\n==x\n",
        options: "env = A==b=\nenv = = B\n = \n = =x",
    },
    Case {
        name: "concat",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\na = 3\nenv = A=%(a a)\nenv = B=%(a + a a)\nenv = C=%(a * 2 + 1)\nenv = D=%(2 + a * 2)\nenv = E=%(a b)\nenv = F=%(nope + 1)\nenv = G=%(a + nope)\nenv = H=%(a +)\nenv = I=%(+ a)\nenv = J=%(a - - 1)\nenv = K=%(10 / a)\nenv = L=%(a+1)\n",
        options: "a = 3\nenv = A=33\nenv = B=63\nenv = C=7\nenv = D=10\nenv = E=3\nenv = F=1\nenv = G=3\nenv = H=3\nenv = I=3\nenv = J=2\nenv = K=3\nenv = L=%(a+1)",
    },
    Case {
        name: "emptyopt",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\na =\nenv = A=x%(a)y\nenv = B=%(a b)\nb = z\n",
        options: "a = \nenv = A=xy\nenv = B=z\nb = z",
    },
    Case {
        name: "refs",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv = A=%(threads)\nthreads = 1\nthreads = 2\nif-opt = threads=1\nenv = B=1\nendif =\nif-opt = threads=2\nenv = C=1\nendif =\n",
        options: "env = A=1\nthreads = 1\nthreads = 2\nif-opt = threads=1\nenv = B=1\nendif = \nif-opt = threads=2\nendif = ",
    },
    Case {
        name: "optlater",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nif-opt = threads\nenv = A=1\nendif =\nthreads = 2\n",
        options: "if-opt = threads\nendif = \nthreads = 2",
    },
    Case {
        name: "optset",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nset = threads=2\nif-opt = threads\nenv = A=%(_)\nendif =\nset-placeholder = p=1\nif-opt = p\nenv = B=%(_)\nendif =\n",
        options: "set = threads=2\nthreads = 2\nif-opt = threads\nenv = A=2\nendif = \nset-placeholder = p=1\np = 1\nif-opt = p\nenv = B=1\nendif = ",
    },
    Case {
        name: "envval",
        form: Form::Ini,
        variables: &[("FOO", "a=b"), ("EMPTY", "")],
        text: "[uwsgi]\nif-env = FOO=a=b\nenv = A=%(_)\nendif =\nif-env = EMPTY\nenv = B=[%(_)]\nendif =\nif-env = EMPTY=\nenv = C=1\nendif =\n",
        options: "if-env = FOO=a=b\nenv = A=a=b\nendif = \nif-env = EMPTY\nenv = B=[]\nendif = \nif-env = EMPTY=\nenv = C=1\nendif = ",
    },
    Case {
        name: "magics",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nini = sub/two.ini\nenv = A=%s %S %n %N %d\n",
        options: "ini = sub/two.ini\nenv = T=two.ini magics.ini two magics /srv/app/sub/\nenv = A=magics.ini magics.ini magics magics /srv/app/",
    },
    Case {
        name: "times",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv = A=%j %J %c %e %o %p %0 %9. %f.\nenv = B=%t|%T|%i|%I|%u|%U|%g|%G|%V|%k|%h|%v\n",
        options: "env = A=3AA5A1B4 3AA5A1B4 app ini times.ini /srv/app/times.ini srv . .\nenv = B=1795963823|1795963823837894|17|17|1000|web|1000|web|2.0.31|4|host|/srv/app",
    },
    Case {
        name: "dollar",
        form: Form::Ini,
        variables: &[("FOO", "v")],
        text: "[uwsgi]\na = $(FOO)\nenv = A=%(a) $(FOO)$ $\nenv = B=$(FOO)(x)\n",
        options: "a = v\nenv = A=v v$ $\nenv = B=v(x)",
    },
    Case {
        name: "percents",
        form: Form::Ini,
        variables: &[],
        text: "[uwsgi]\nenv = A=100%% %%%% 5%%%%(x) %%(x)\nx = 1\n",
        options: "env = A=100% %% 5%1 1\nx = 1",
    },
    Case {
        name: "xmltext",
        form: Form::Xml,
        variables: &[],
        text: "<uwsgi>\n  <env>A=1</env>\n  <env><![CDATA[B=<2>]]></env>\n  <processes>\n4\n</processes>\n  <env>C=&amp;&lt;</env>\n  <disable-logging/>\n  <vacuum></vacuum>\n</uwsgi>",
        options: "env = A=1\nenv = B=<2>\nprocesses = \n4\n\nenv = C=&<\ndisable-logging = 1\nvacuum = 1",
    },
];
