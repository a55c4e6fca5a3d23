//! Conditions on the method of a request: `if ($request_method = …)` and `limit_except`.
//!
//! nginx decides by the `if` of a server before it looks for a location. Here each place of the
//! server gets a second table, with `method`.

use super::access::{self, Access};
use super::locations::{Context, push};
use super::method_conditions::{Condition, Kind, condition, is_shared, set};
use super::redirects::{self, Fixed};
use super::{Meaning, PLACE, Table, rules, try_files};
use crate::config::foreign::Verdict;
use crate::config::methods::{Methods, method_name};

/// Makes the tables of the named location that gets what a table passes on.
pub type Behind = fn(&mut Meaning<'_>, &Context<'_>, usize, &str, &Table) -> Vec<Table>;

/// The tables of a location, for some methods, beside those for all.
pub fn tables(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (at, path): (usize, &str),
    made: &[Table],
    behind: Behind,
) -> Vec<Table> {
    let mut all: Vec<Table> = Vec::new();
    let children: Vec<_> = meaning.tree.children(Some(at)).collect();
    for block in children {
        match meaning.name(block) {
            // nginx does not get to an `if` behind it.
            "return" => break,
            "if" if meaning.verdicts[block].is_none() => {
                let Some(condition) = condition(meaning, block) else {
                    continue;
                };
                if all.iter().any(|table| overlaps(table, &condition.methods)) {
                    let text = "an earlier condition of this location has one of these methods";
                    refuse(meaning, block, text);
                    continue;
                }
                let tables =
                    conditional(meaning, context, (block, path), &condition, (made, behind));
                all.extend(tables);
            }
            _ => {}
        }
    }
    let block = meaning.tree.named(Some(at), "limit_except").next();
    if let Some(block) = block.filter(|block| meaning.verdicts[*block].is_none()) {
        let tables = limited(meaning, context, (block, path), made, &all);
        all.extend(tables);
    }
    all
}

/// Leaves those of the tables behind files that do not answer in the place of a file: a table with
/// methods comes before files.
pub fn behind_files(meaning: &mut Meaning<'_>, made: Vec<Table>) -> Vec<Table> {
    let is_of_files = |table: &Table| {
        let reads = ["GET", "HEAD"].map(str::to_owned);
        table.value("method").is_some()
            && reads
                .iter()
                .any(|method| overlaps(table, std::slice::from_ref(method)))
    };
    let (before, made): (Vec<_>, Vec<_>) = made.into_iter().partition(is_of_files);
    for table in before {
        meaning.verdicts[table.at] = None;
        refuse(
            meaning,
            table.at,
            "files come before this location, and a method before files",
        );
    }
    made
}

/// The tables of the conditions that a server has, at every place of the tables from `first` on, which
/// are its own.
pub fn of_server(meaning: &mut Meaning<'_>, context: &Context<'_>, first: usize) {
    let children: Vec<_> = meaning.tree.children(Some(context.site.at)).collect();
    let mut earlier: Vec<Vec<String>> = Vec::new();
    for block in children {
        if matches!(meaning.name(block), "return") {
            break;
        }
        if meaning.name(block) != "if" || meaning.verdicts[block].is_some() {
            continue;
        }
        let Some(condition) = condition(meaning, block) else {
            continue;
        };
        let is_fixed = condition.kind == Kind::Returns;
        let is_taken = earlier.iter().any(|own| is_shared(own, &condition.methods));
        if !is_fixed || is_taken {
            refuse(
                meaning,
                block,
                "an earlier condition has one of these methods",
            );
            continue;
        }
        let Some((line, Some(fixed))) = redirects::fixed(meaning, context.site, block) else {
            refuse(meaning, block, "its response cannot be made here");
            continue;
        };
        let mut shown = None;
        for place in places(&meaning.tables[first..], &condition.methods) {
            yield_to(meaning, first, &place, &condition.methods);
            let mut table = Table {
                at: block,
                entries: place,
            };
            table.entries.push(("method", condition.methods.clone()));
            let path = table.path().unwrap_or("/").to_owned();
            fixed.clone().enter(&mut table, &path);
            rules::enter(meaning, context, block, &mut table);
            let text = table.shown();
            if push(meaning, context.site, table) {
                shown.get_or_insert(text);
            }
        }
        let shown = shown.unwrap_or_default();
        meaning.honoured(block, shown.clone());
        meaning.honoured(line, shown);
        earlier.push(condition.methods);
    }
}

/// The places of tables, each once; those that are for other methods alone are none.
fn places(tables: &[Table], methods: &[String]) -> Vec<Vec<(&'static str, Vec<String>)>> {
    let mut all: Vec<Vec<_>> = Vec::new();
    for table in tables {
        let own = table.values("method");
        if !own.is_empty() && !is_shared(own, methods) {
            continue;
        }
        let is_place = |name: &str| PLACE.contains(&name) && name != "method";
        let place = table.entries.iter().filter(|(name, _)| is_place(name));
        let place: Vec<_> = place.cloned().collect();
        if !all.contains(&place) {
            all.push(place);
        }
    }
    all
}

/// Takes from the tables of a place the methods that the condition of the server answers.
fn yield_to(
    meaning: &mut Meaning<'_>,
    first: usize,
    place: &[(&'static str, Vec<String>)],
    methods: &[String],
) {
    let taken = set(methods);
    let mut tables = meaning.tables.split_off(first);
    tables.retain_mut(|table| {
        let mut place = place.iter();
        let is_here = place.all(|(name, values)| table.values(name) == &values[..]);
        let own = table.entries.iter_mut().find(|(name, _)| *name == "method");
        let Some((_, own)) = own.filter(|_| is_here) else {
            return true;
        };
        let left = set(own).without(&taken);
        *own = left.as_ref().map_or_else(Vec::new, Methods::names);
        left.is_some()
    });
    meaning.tables.extend(tables);
}

fn overlaps(table: &Table, methods: &[String]) -> bool {
    is_shared(table.values("method"), methods)
}

fn refuse(meaning: &mut Meaning<'_>, block: usize, text: &str) {
    meaning.unsupported(block, text);
    let inside = Verdict::Unsupported("its condition is not supported".to_owned());
    meaning.say_inside(block, &inside);
}

/// Those of the tables that a location behind them has not made for some methods.
fn for_all_methods(made: &[Table]) -> impl Iterator<Item = &Table> {
    made.iter().filter(|table| table.value("method").is_none())
}

/// The tables of one `if` of a location.
fn conditional(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (block, path): (usize, &str),
    condition: &Condition,
    (made, behind): (&[Table], Behind),
) -> Vec<Table> {
    let with_methods = |table: &Table| {
        let mut table = table.clone();
        table.at = block;
        table.entries.push(("method", condition.methods.clone()));
        table
    };
    if condition.kind == Kind::Returns {
        let Some(first) = made.first() else {
            return Vec::new();
        };
        let Some((line, Some(fixed))) = redirects::fixed(meaning, context.site, block) else {
            refuse(meaning, block, "its response cannot be made here");
            return Vec::new();
        };
        let mut table = with_methods(first);
        table.clear();
        if let Some(named) = try_files::passed_on(meaning, context, line) {
            let made = behind(meaning, context, named, path, &table);
            if let Some(first) = made.first() {
                meaning.honoured(block, first.shown());
            }
            return made;
        }
        fixed.enter(&mut table, path);
        rules::enter(meaning, context, block, &mut table);
        meaning.honoured(block, table.shown());
        meaning.honoured(line, table.shown());
        return vec![table];
    }
    let location = meaning.tree.items[block].parent.unwrap_or(block);
    if meaning
        .tree
        .named(Some(location), "try_files")
        .next()
        .is_some()
    {
        refuse(
            meaning,
            block,
            "nginx leaves out try_files for such requests: give them a location of their own",
        );
        return Vec::new();
    }
    let tables: Vec<_> = for_all_methods(made).map(with_methods).collect();
    let tables = tables.into_iter().map(|mut table| {
        rules::replace_headers(meaning, context, block, &mut table);
        table
    });
    let tables: Vec<_> = tables.collect();
    if let Some(first) = tables.first() {
        meaning.honoured(block, first.shown());
    }
    tables
}

/// The tables of `limit_except`, for the methods that it does not name.
fn limited(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (block, path): (usize, &str),
    made: &[Table],
    conditional: &[Table],
) -> Vec<Table> {
    let Some(methods) = restricted(&meaning.args(block), conditional) else {
        meaning.say(
            block,
            Verdict::Wrong("limit_except names methods".to_owned()),
        );
        return Vec::new();
    };
    if methods.is_empty() {
        meaning.no_effect(
            block,
            "the conditions of the location answer all other methods",
        );
        return Vec::new();
    }
    let children: Vec<_> = meaning.tree.children(Some(block)).collect();
    let other = children.into_iter().find(|child| {
        let known = [
            "allow",
            "deny",
            "auth_basic",
            "auth_basic_user_file",
            "satisfy",
        ];
        !known.contains(&meaning.name(*child))
    });
    let mut tables = Vec::new();
    for table in for_all_methods(made) {
        let mut table = table.clone();
        table.at = block;
        table.entries.push(("method", methods.clone()));
        let is_restriction = |name: &str| access::RESTRICTIONS.contains(&name);
        table.entries.retain(|(name, _)| !is_restriction(name));
        if other.is_some() || access::enter(meaning, block, &mut table) != Access::Open {
            table.clear();
            Fixed::status("403").enter(&mut table, path);
            rules::enter(meaning, context, block, &mut table);
        }
        tables.push(table);
    }
    if let Some(first) = tables.first() {
        meaning.honoured(block, first.shown());
    }
    if let Some(other) = other {
        let text =
            "other methods are refused with 403, because of a line in it that is not supported";
        meaning.unsupported(block, text);
        meaning.unsupported(other, "other methods are refused here");
    }
    tables
}

/// The methods that a `limit_except` with these arguments restricts, as the setting has them: those that
/// no condition answers, as the phase "rewrite" comes first. `None` for wrong arguments.
fn restricted(named: &[&str], conditional: &[Table]) -> Option<Vec<String>> {
    let mut named: Vec<_> = named.iter().map(|method| format!("!{method}")).collect();
    if named.is_empty() || named.iter().any(|text| method_name(text).is_err()) {
        return None;
    }
    // "Allowing the GET method makes the HEAD method also allowed."
    if named.iter().any(|text| text == "!GET") {
        named.push("!HEAD".to_owned());
    }
    let mut left = set(&named);
    for table in conditional {
        match left.without(&set(table.values("method"))) {
            Some(rest) => left = rest,
            None => return Some(Vec::new()),
        }
    }
    Some(left.names())
}
