//! Names that a Python module binds when it is imported, as far as its text says so: pure.
//!
//! A small reader of Python's lexical structure (The Python Language Reference, chapter 2): strings,
//! comments, brackets and line joining, then statements by their indentation. It knows assignments,
//! imports, definitions, `for`, `with`, `case` and `:=`. It does not know values: a name that is bound in
//! an `if`, a `try` or a `match` is bound *perhaps*, and after `from x import *` any name may be.

use std::collections::HashSet;

/// Names that importing a module binds.
#[derive(Debug, Default)]
pub struct Names {
    sure: HashSet<String>,
    perhaps: HashSet<String>,
    is_open: bool,
}

impl Names {
    /// Reads the text of a module. Text that is no Python gives some names or none.
    pub fn of(source: &str) -> Self {
        let mut names = Self::default();
        let mut blocks: Vec<Block> = Vec::new();
        for line in lines(source) {
            blocks.retain(|block| block.indent < line.indent);
            names.read(&line.tokens, line.indent, &mut blocks);
        }
        names
    }

    /// The name is bound whenever the module is imported.
    pub fn has(&self, name: &str) -> bool {
        self.sure.contains(name)
    }

    /// The name is bound, or is in a block that may not run.
    pub fn may_have(&self, name: &str) -> bool {
        self.has(name) || self.perhaps.contains(name)
    }

    /// The text does not show all names: `import *`, `globals()`, `exec`, a `__getattr__` of the module.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    fn read(&mut self, tokens: &[Token<'_>], indent: usize, blocks: &mut Vec<Block>) {
        let scope = blocks.iter().map(|block| block.kind).max();
        // A line that is indented for no block is no Python.
        let scope = scope.unwrap_or(match indent {
            0 => Kind::Sure,
            _ => Kind::Hidden,
        });
        let tokens = match tokens {
            [Token::Name("async"), rest @ ..] => rest,
            tokens => tokens,
        };
        let Some(Token::Name(first)) = tokens.first() else {
            return self.statements(tokens, scope);
        };
        let kind = match *first {
            "def" | "class" => {
                if let Some(Token::Name(name)) = tokens.get(1) {
                    self.is_open |= *name == "__getattr__" && scope < Kind::Hidden;
                    self.bind(name, scope);
                }
                blocks.push(Block {
                    indent,
                    kind: Kind::Hidden,
                });
                return;
            }
            // Not run by an import.
            "if" if tokens.get(1) == Some(&Token::Name("__name__")) => Kind::Hidden,
            "with" => Kind::Sure,
            "match" | "case" if is_match(tokens) => Kind::Perhaps,
            "if" | "elif" | "else" | "try" | "except" | "finally" | "for" | "while" => {
                Kind::Perhaps
            }
            _ => return self.statements(tokens, scope),
        };
        let kind = kind.max(scope);
        let colon = top_level(tokens, ":").next().unwrap_or(tokens.len());
        self.header(&tokens[..colon], kind);
        self.statements(tokens.get(colon + 1..).unwrap_or_default(), kind);
        blocks.push(Block { indent, kind });
    }

    fn header(&mut self, tokens: &[Token<'_>], scope: Kind) {
        self.expression(tokens, scope);
        match tokens.first() {
            Some(Token::Name("for")) => {
                let end = tokens.iter().position(|token| *token == Token::Name("in"));
                self.target(&tokens[1..end.unwrap_or(tokens.len())], scope);
            }
            Some(Token::Name("with")) => {
                for pair in tokens.windows(2) {
                    if let [Token::Name("as"), Token::Name(name)] = pair {
                        self.bind(name, scope);
                    }
                }
                let lists = tokens
                    .windows(2)
                    .position(|pair| matches!(pair, [Token::Name("as"), Token::Sign("(" | "[")]));
                if let Some(at) = lists {
                    self.target(&tokens[at + 1..], scope.max(Kind::Perhaps));
                }
            }
            // A pattern captures by names, as a target binds them.
            Some(Token::Name("case")) => self.target(&tokens[1..], scope),
            _ => {}
        }
    }

    fn statements(&mut self, tokens: &[Token<'_>], scope: Kind) {
        for statement in tokens.split(|token| *token == Token::Sign(";")) {
            self.statement(statement, scope);
        }
    }

    fn statement(&mut self, tokens: &[Token<'_>], scope: Kind) {
        self.expression(tokens, scope);
        match tokens {
            [Token::Name("global"), names @ ..] if scope == Kind::Hidden => {
                let names = names.iter().filter_map(Token::name);
                self.perhaps.extend(names.map(str::to_owned));
            }
            [Token::Name("import"), rest @ ..] => self.imports(rest, scope),
            [Token::Name("from"), rest @ ..] => {
                let at = rest
                    .iter()
                    .position(|token| *token == Token::Name("import"));
                self.imports(&rest[at.map_or(rest.len(), |at| at + 1)..], scope);
            }
            _ => {
                let mut begin = 0;
                for equals in top_level(tokens, "=") {
                    let target = &tokens[begin..equals];
                    // The annotation stands behind a colon.
                    let end = top_level(target, ":").next().unwrap_or(target.len());
                    self.target(&target[..end], scope);
                    begin = equals + 1;
                }
            }
        }
    }

    fn imports(&mut self, tokens: &[Token<'_>], scope: Kind) {
        for item in tokens.split(|token| *token == Token::Sign(",")) {
            let names: Vec<_> = item.iter().filter_map(Token::name).collect();
            self.is_open |= item.contains(&Token::Sign("*")) && scope < Kind::Hidden;
            match names.as_slice() {
                [.., "as", name] | [name, ..] => self.bind(name, scope),
                [] => {}
            }
        }
    }

    /// Names in a target are bound, but not what attributes and items belong to.
    fn target(&mut self, tokens: &[Token<'_>], scope: Kind) {
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| tokens.get(at));
            let is_attribute = before == Some(&Token::Sign("."));
            let is_owner = matches!(tokens.get(at + 1), Some(Token::Sign("." | "[" | "(")));
            if let (Token::Name(name), false, false) = (token, is_attribute, is_owner) {
                self.bind(name, scope);
            }
        }
    }

    fn expression(&mut self, tokens: &[Token<'_>], scope: Kind) {
        /// These bind names of the module from functions too, which decorators call.
        const ANYWHERE: [&str; 6] = [
            "globals",
            "f_globals",
            "exec",
            "modules",
            "import_module",
            "__import__",
        ];
        const DYNAMIC: [&str; 4] = ["locals", "vars", "setattr", "__dict__"];
        for (at, token) in tokens.iter().enumerate() {
            let Token::Name(name) = token else { continue };
            if tokens.get(at + 1) == Some(&Token::Sign(":=")) {
                self.bind(name, scope);
            }
            self.is_open |= ANYWHERE.contains(name);
            self.is_open |= scope < Kind::Hidden && DYNAMIC.contains(name);
        }
    }

    fn bind(&mut self, name: &str, scope: Kind) {
        match scope {
            Kind::Sure => self.sure.insert(name.to_owned()),
            Kind::Perhaps => self.perhaps.insert(name.to_owned()),
            Kind::Hidden => false,
        };
    }
}

/// Lines that are indented deeper than this belong to it.
struct Block {
    indent: usize,
    kind: Kind,
}

/// The relation of a block's bindings to the module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Sure,
    /// The block may not run.
    Perhaps,
    /// The block has names of its own, or an import does not run it.
    Hidden,
}

/// A logical line.
struct Line<'a> {
    indent: usize,
    tokens: Vec<Token<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    /// An operator or delimiter.
    Sign(&'a str),
    /// A string or a number.
    Literal,
}

impl<'a> Token<'a> {
    fn name(&self) -> Option<&'a str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Sign(_) | Self::Literal => None,
        }
    }
}

/// True if a line that begins with `match` or `case` begins such a block: both are names as well
/// (The Python Language Reference §2.3.2, soft keywords).
fn is_match(tokens: &[Token<'_>]) -> bool {
    let is_name = matches!(
        tokens.get(1),
        None | Some(Token::Sign("." | "=" | ":" | ","))
    );
    !is_name && top_level(tokens, ":").next().is_some()
}

/// Places of a sign outside of brackets; a colon of a `lambda` is none.
fn top_level<'t>(tokens: &'t [Token<'_>], sign: &'t str) -> impl Iterator<Item = usize> + 't {
    let (mut depth, mut lambdas) = (0_i32, 0);
    tokens.iter().enumerate().filter_map(move |(at, token)| {
        match token {
            Token::Sign("(" | "[" | "{") => depth += 1,
            Token::Sign(")" | "]" | "}") => depth -= 1,
            Token::Name("lambda") if depth == 0 => lambdas += 1,
            Token::Sign(":") if depth == 0 && lambdas > 0 => {
                lambdas -= 1;
                return None;
            }
            _ => {}
        }
        (depth == 0 && *token == Token::Sign(sign)).then_some(at)
    })
}

/// Longest first, so that `==` is not read as two assignments.
const SIGNS: [&str; 22] = [
    "**=", "//=", ">>=", "<<=", "==", "!=", "<=", ">=", ":=", "->", "+=", "-=", "*=", "/=", "%=",
    "&=", "|=", "^=", "@=", "**", "//", "...",
];

fn lines(source: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut line = Line {
        indent: 0,
        tokens: Vec::new(),
    };
    let (mut at, mut depth, mut begin) = (0, 0_usize, 0);
    while let Some(next) = source[at..].chars().next() {
        let rest = &source[at..];
        if line.tokens.is_empty() {
            line.indent = at - begin;
        }
        at += match next {
            '\n' => {
                begin = at + 1;
                if depth == 0 && !line.tokens.is_empty() {
                    let empty = Line {
                        indent: 0,
                        tokens: Vec::new(),
                    };
                    lines.push(std::mem::replace(&mut line, empty));
                }
                1
            }
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '\\' if rest.starts_with("\\\n") => 2,
            '\\' if rest.starts_with("\\\r\n") => 3,
            '"' | '\'' => {
                line.tokens.push(Token::Literal);
                string(rest, next)
            }
            _ if next.is_whitespace() => next.len_utf8(),
            _ if next == '_' || next.is_alphabetic() => {
                let is_part = |c: char| c == '_' || c.is_alphanumeric();
                let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
                // A prefix of a string, as in `rb''`, belongs to that.
                if !rest[end..].starts_with(['"', '\'']) {
                    line.tokens.push(Token::Name(&rest[..end]));
                }
                end
            }
            _ if next.is_ascii_digit() => {
                line.tokens.push(Token::Literal);
                let is_part = |c: char| c == '_' || c == '.' || c.is_alphanumeric();
                rest.find(|c: char| !is_part(c)).unwrap_or(rest.len())
            }
            _ => {
                match next {
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                let length = sign.map_or(next.len_utf8(), |sign| sign.len());
                line.tokens.push(Token::Sign(&rest[..length]));
                length
            }
        };
    }
    lines.push(line);
    lines
}

/// Length of the string at the beginning of `text`, which `quote` opens.
fn string(text: &str, quote: char) -> usize {
    let triple = quote.to_string().repeat(3);
    let (closing, mut at) = match text.starts_with(&triple) {
        true => (triple, 3),
        false => (quote.to_string(), 1),
    };
    while let Some(next) = text[at..].chars().next() {
        if text[at..].starts_with(&closing) {
            return at + closing.len();
        }
        at += match next {
            '\\' => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            // A string that the line ends is a mistake; the next line is none.
            '\n' if closing.len() == 1 => return at,
            _ => next.len_utf8(),
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_an_import_binds_is_found() {
        for source in [
            "app = 1",
            "import x; app = x.y()",
            "a = app = 1",
            "a, app = f()",
            "(a, [app, *b]) = f()",
            "app: Flask = make()",
            "x = 1; app: 'a: b' = 2",
            "from x import app",
            "from x import (\n  a,\n  app, # c\n)",
            "from x import y as app",
            "from x import a, \\\n  app",
            "from x import a, \\\r\n  app",
            "import app",
            "import app.views",
            "import x as app",
            "def app(e, s):\n  pass",
            "async def app(): pass",
            "class app:\n  x = 1",
            "@wrap\ndef app(e, s): pass",
            "print(app := make())",
            "with x() as app:\n  pass",
            "with x():\n  app = 1",
            "x = lambda: 0; app = 1",
            "if True:\n  x = 1\napp = 1",
            "def f():\n  \"\"\"\nx\n  \"\"\"\napp = 1",
            "x = 'it\\'s'\napp = 1",
            "x = [\n1,\n2]\napp = 1",
            "app = x[y := 1]",
            "d = {'a': 1}; app = d",
        ] {
            assert!(Names::of(source).has("app"), "{source}");
        }
    }

    #[test]
    fn what_may_not_run_is_bound_perhaps() {
        for source in [
            "try:\n  app = 1\nexcept E:\n  app = 2",
            "if x: app = 1",
            "if x:\n  pass\nelse:\n  from y import app",
            "for app in x: pass",
            "while x:\n  if y:\n    app = 1",
            "def f():\n  global app\n  app = 1",
            "if x:\n  def app(e, s): pass",
            "try: app = 1\nfinally: pass",
            "if (app := x): pass",
            "match x:\n  case 1:\n    app = 1\n  case _:\n    app = 2",
            "match x:\n  case 1: app = 1",
            "match (x):\n  case [1]:\n    def app(e, s): pass",
            "match x:\n  case app: pass",
            "match x:\n  case {'a': [app, *_]} if app: pass",
            "match x:\n  case P(a=1) as app: pass",
            "with x() as (a, app):\n  pass",
        ] {
            let names = Names::of(source);
            assert!(names.may_have("app") && !names.has("app"), "{source}");
        }
    }

    #[test]
    fn what_binds_nothing_is_not_taken_for_a_binding() {
        for source in [
            "app == 1",
            "app",
            "app.x = 1",
            "app['x'] = 1",
            "x.app = 1",
            "x = app",
            "f(app=1)",
            "apps = 1",
            "# app = 1",
            "'''\napp = 1\n'''",
            "x = \"app = 1\"",
            "def f():\n  app = 1",
            "class A:\n  app = 1",
            "if __name__ == '__main__':\n  app = 1",
            "if __name__ == '__main__': app = 1",
            "app += 1",
            "app: Flask",
            "match = re.match(app)",
            "match.x = 1",
            "case: int = 1",
            "case = 1",
            "from app import x",
            "import x.app",
            "x = (app == 1)",
            "x = lambda app: 1",
            "def f(app): pass",
            "try: pass\nexcept E as app: pass",
        ] {
            let names = Names::of(source);
            assert!(!names.may_have("app") && !names.is_open(), "{source}");
        }
    }

    #[test]
    fn text_that_hides_names_is_open() {
        for source in [
            "from x import *",
            "globals()['app'] = 1",
            "exec(code)",
            "def __getattr__(name): pass",
            "setattr(sys.modules[__name__], 'app', 1)",
            "if x: from y import *",
            "sys.modules[__name__].app = 1",
            "importlib.import_module(__name__).app = 1",
            "def keep(f):\n  globals()['app'] = f\n  return f\n@keep\ndef x(e, s): pass",
            "def keep(f):\n  setattr(sys.modules[f.__module__], 'app', f)",
            "def f():\n  exec(x)",
            "def f():\n  sys._getframe(1).f_globals['app'] = 1",
            "vars().update(x)",
        ] {
            assert!(Names::of(source).is_open(), "{source}");
        }
        for source in [
            "def f():\n  setattr(x, 'a', 1)",
            "x * y",
            "f(*a, **b)",
            "'import *'",
        ] {
            assert!(!Names::of(source).is_open(), "{source}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(source in "(\\PC|\n){0,100}|((app|def|if|from|import|lambda|with|as|[a='\"()\\[\\]{}:;=*\\\\#.é\n ]) ?){0,40}") {
            let _ = Names::of(&source);
        }
    }
}
