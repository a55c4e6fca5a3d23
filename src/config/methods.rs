//! Methods of requests in `[[location]]`: some, or all but some.

use std::fmt;

use http::Method;

use super::error::{Invalid, invalid};

/// The methods of the requests that a location is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Methods {
    /// All methods.
    #[default]
    Every,
    /// These.
    Only(Vec<Method>),
    /// All but these.
    Except(Vec<Method>),
}

impl Methods {
    /// The set that names as in `GET`, or as in `!GET`, describe together; every method for none.
    ///
    /// # Errors
    /// [`Invalid`] for both kinds of names, and for CONNECT alone, which no location gets.
    pub fn of(named: Vec<NamedMethod>) -> Result<Self, Invalid> {
        let Some(first) = named.first() else {
            return Ok(Self::Every);
        };
        let is_negated = first.is_negated;
        if named.iter().any(|other| other.is_negated != is_negated) {
            return Err(invalid(
                "some methods have a `!` and others do not",
                "name the methods as in `GET`, or those that are left out as in `!GET`",
            ));
        }
        let mut all: Vec<_> = named.into_iter().map(|named| named.method).collect();
        all.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        all.dedup();
        if !is_negated && all == [Method::CONNECT] {
            return Err(invalid(
                "no location gets CONNECT: it is refused",
                "remove the location, or name other methods",
            ));
        }
        Ok(match is_negated {
            true => Self::Except(all),
            false => Self::Only(all),
        })
    }

    /// True for a method of the set.
    pub fn contain(&self, method: &Method) -> bool {
        match self {
            Self::Every => true,
            Self::Only(all) => all.contains(method),
            Self::Except(all) => !all.contains(method),
        }
    }

    /// True for all methods.
    pub fn are_all(&self) -> bool {
        *self == Self::Every
    }

    /// True if a method is in both sets.
    pub fn overlap(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Only(all), other) | (other, Self::Only(all)) => {
                all.iter().any(|method| other.contain(method))
            }
            // There are other methods than those that both leave out.
            _ => true,
        }
    }

    /// The methods of this set that are not in the other one; `None` if there are none.
    pub fn without(&self, other: &Self) -> Option<Self> {
        let common = |one: &[Method], other: &[Method], is_in: bool| {
            let all = one.iter().filter(|method| other.contains(method) == is_in);
            let all: Vec<_> = all.cloned().collect();
            (!all.is_empty()).then_some(Self::Only(all))
        };
        match (self, other) {
            (_, Self::Every) => None,
            (Self::Every, Self::Only(all)) => Some(Self::Except(all.clone())),
            (Self::Every, Self::Except(all)) => common(all, &[], false),
            (Self::Only(own), Self::Only(all)) => common(own, all, false),
            (Self::Only(own), Self::Except(all)) => common(own, all, true),
            (Self::Except(own), Self::Except(all)) => common(all, own, false),
            (Self::Except(own), Self::Only(all)) => {
                let more = all.iter().filter(|method| !own.contains(method));
                Some(Self::Except(own.iter().chain(more).cloned().collect()))
            }
        }
    }

    /// The set as the setting has it; none for every method.
    pub fn names(&self) -> Vec<String> {
        let (sign, all) = match self {
            Self::Every => return Vec::new(),
            Self::Only(all) => ("", all),
            Self::Except(all) => ("!", all),
        };
        all.iter().map(|method| format!("{sign}{method}")).collect()
    }
}

impl fmt::Display for Methods {
    /// `GET, HEAD` or `!GET, !HEAD`; nothing for every method.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

/// One method of the setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMethod {
    method: Method,
    /// True if it stands behind a `!`.
    is_negated: bool,
}

/// Reads `GET` or `!GET`. Methods are case-sensitive (RFC 9110 §9.1).
///
/// # Errors
/// [`Invalid`] for anything that no method is, and for one in lower case, which no client sends.
pub fn method_name(text: &str) -> Result<NamedMethod, Invalid> {
    let bare = text.strip_prefix('!').unwrap_or(text);
    if bare == "*" {
        return Err(invalid(
            "not the method of a request",
            "leave it out for every method",
        ));
    }
    // Names begin with a letter, as in M-SEARCH and BASELINE-CONTROL.
    let is_usual = bare.starts_with(|c: char| c.is_ascii_uppercase())
        && !bare.bytes().any(|byte| byte.is_ascii_lowercase());
    match Method::from_bytes(bare.as_bytes()) {
        Ok(method) if is_usual => Ok(NamedMethod {
            method,
            is_negated: bare != text,
        }),
        _ => Err(invalid(
            "not the method of a request",
            "give it in capitals, as in `GET`, or `!GET` for all others",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods(texts: &[&str]) -> Methods {
        let named = texts.iter().map(|text| method_name(text).unwrap());
        Methods::of(named.collect()).unwrap()
    }

    #[test]
    fn sets_of_methods_contain_and_overlap() {
        let (every, read, write) = (methods(&[]), methods(&["HEAD", "GET"]), methods(&["POST"]));
        let others = methods(&["!GET", "!HEAD"]);
        for (set, get, post, shown) in [
            (&every, true, true, ""),
            (&read, true, false, "GET, HEAD"),
            (&write, false, true, "POST"),
            (&others, false, true, "!GET, !HEAD"),
        ] {
            assert_eq!(set.contain(&Method::GET), get, "{set:?}");
            assert_eq!(set.contain(&Method::POST), post, "{set:?}");
            assert_eq!(set.to_string(), shown);
        }
        for (one, other, expected) in [
            (&read, &write, false),
            (&read, &others, false),
            (&write, &others, true),
            (&others, &methods(&["!POST"]), true),
            (&every, &write, true),
        ] {
            assert_eq!(one.overlap(other), expected, "{one:?} {other:?}");
            assert_eq!(other.overlap(one), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_set_without_another_one_is_a_set() {
        for (one, other, expected) in [
            (&["GET", "PUT"][..], &["GET"][..], "PUT"),
            (&["GET", "PUT"], &["!GET"], "GET"),
            (&["GET"], &["GET", "PUT"], "none"),
            (&["!GET"], &["PUT"], "!GET, !PUT"),
            (&["!GET"], &["GET"], "!GET"),
            (&["!GET"], &["!GET", "!PUT"], "PUT"),
            (&["!GET"], &["!GET"], "none"),
            (&[], &["PUT"], "!PUT"),
            (&[], &["!PUT"], "PUT"),
            (&["PUT"], &[], "none"),
        ] {
            let left = methods(one).without(&methods(other));
            let shown = left.map_or_else(|| "none".to_owned(), |left| left.to_string());
            assert_eq!(shown, expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn other_texts_and_mixed_sets_are_refused() {
        for text in [
            "", "!", "get", "GET POST", "!!GET", "GET,HEAD", "5", "!5", "*", "!*", "-X", "Get",
        ] {
            assert!(method_name(text).is_err(), "{text}");
        }
        let connect = ["CONNECT"].map(|text| method_name(text).unwrap());
        assert!(Methods::of(connect.to_vec()).is_err());
        for text in ["M-SEARCH", "!CONNECT", "REPORT2"] {
            assert!(method_name(text).is_ok(), "{text}");
        }
        let mixed = ["GET", "!POST"].map(|text| method_name(text).unwrap());
        assert!(Methods::of(mixed.to_vec()).is_err());
    }
}
