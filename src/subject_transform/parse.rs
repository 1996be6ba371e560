//! The functions that tokens of a destination name.

use alloc::string::String;
use alloc::vec::Vec;

use super::{TokenError, TransformError};

/// A function with its arguments. Tokens are given by the number of their wildcard, and later by their
/// place in the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Wildcard(i64),
    /// Of no tokens in particular it is the whole subject.
    Partition {
        buckets: i32,
        tokens: Vec<i64>,
    },
    Split {
        token: i64,
        delimiter: String,
    },
    Cut {
        cut: Cut,
        token: i64,
        size: i32,
    },
    Random {
        below: i32,
    },
}

/// How a token is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Left,
    Right,
    SplitFromLeft,
    SplitFromRight,
    SliceFromLeft,
    SliceFromRight,
}

/// Upper-case letters may be lower-case, too.
const CUTS: [(&str, Cut); 6] = [
    ("SplitFromLeft", Cut::SplitFromLeft),
    ("SplitFromRight", Cut::SplitFromRight),
    ("SliceFromLeft", Cut::SliceFromLeft),
    ("SliceFromRight", Cut::SliceFromRight),
    ("Right", Cut::Right),
    ("Left", Cut::Left),
];

impl Function {
    /// The tokens that it is given.
    pub(super) fn indexes(&mut self) -> &mut [i64] {
        match self {
            Self::Wildcard(token) | Self::Split { token, .. } | Self::Cut { token, .. } => {
                core::slice::from_mut(token)
            }
            Self::Partition { tokens, .. } => tokens,
            Self::Random { .. } => &mut [],
        }
    }
}

/// Whether every token of a destination can be one.
pub(super) fn check_tokens(destination: &str) -> Result<(), TransformError> {
    let mut last = false;
    for token in destination.split('.') {
        if token.is_empty() || last {
            return Err(TransformError::Token { token: token.into(), kind: TokenError::Invalid });
        }
        last = token == ">";
        if call(token).is_none() && token.contains(['\t', '\n', '\x0c', '\r', ' ']) {
            return Err(TransformError::Space);
        }
    }
    Ok(())
}

/// What stands in a token's double braces.
fn call(token: &str) -> Option<&str> {
    let inside = token.strip_prefix("{{")?.strip_suffix("}}")?;
    Some(inside).filter(|inside| !inside.is_empty())
}

/// The function of a token; none if the token means itself.
pub(super) fn function(token: &str) -> Result<Option<Function>, TransformError> {
    if let Some(index) = token.strip_prefix('$') {
        // Other things than numbers may begin so.
        return Ok(index.parse().ok().map(Function::Wildcard));
    }
    let Some(inside) = call(token) else { return Ok(None) };
    match parse(inside) {
        Ok(function) => Ok(Some(function)),
        Err(kind) => Err(TransformError::Token { token: token.into(), kind }),
    }
}

fn parse(inside: &str) -> Result<Function, TokenError> {
    let inside = inside.trim_matches(is_space);
    let call = inside.strip_suffix(')').and_then(|call| call.split_once('('));
    let (name, arguments) = call.ok_or(TokenError::UnknownFunction)?;
    let name = name.trim_end_matches(is_space);
    let mut arguments = arguments.split(',');
    let first = arguments.next().unwrap_or_default();
    let others: Vec<&str> =
        arguments.map(|argument| argument.trim_start_matches(is_space)).collect();
    if is(name, "Wildcard") {
        return match (first, &*others) {
            ("", []) => Err(TokenError::NotEnoughArguments),
            (_, []) => number(first).map(Function::Wildcard),
            _ => Err(TokenError::TooManyArguments),
        };
    }
    if is(name, "Partition") {
        let buckets = number(first)?;
        let tokens = others.into_iter().map(number).collect::<Result<_, _>>()?;
        return Ok(Function::Partition { buckets, tokens });
    }
    if let Some((_, cut)) = CUTS.into_iter().find(|(cut, _)| is(name, cut)) {
        let size = second(&others)?;
        return Ok(Function::Cut { cut, token: number(first)?, size: number(size)? });
    }
    if is(name, "Split") {
        let delimiter = second(&others)?;
        let token = number(first)?;
        return match delimiter.contains(' ') {
            true => Err(TokenError::InvalidArgument),
            false => Ok(Function::Split { token, delimiter: delimiter.into() }),
        };
    }
    if is(name, "Random") {
        return match &*others {
            [] => Ok(Function::Random { below: number(first)? }),
            // Upstream says so of too many.
            _ => Err(TokenError::NotEnoughArguments),
        };
    }
    Err(TokenError::UnknownFunction)
}

const fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ')
}

/// Whether it is the name, whose upper-case letters may be lower-case.
fn is(found: &str, name: &str) -> bool {
    let same = |(found, name): (u8, u8)| found == name || found == name.to_ascii_lowercase();
    found.len() == name.len() && found.bytes().zip(name.bytes()).all(same)
}

fn second<'a>(others: &[&'a str]) -> Result<&'a str, TokenError> {
    match others {
        [] => Err(TokenError::NotEnoughArguments),
        [only] => Ok(only),
        _ => Err(TokenError::TooManyArguments),
    }
}

fn number<T: core::str::FromStr>(text: &str) -> Result<T, TokenError> {
    text.trim_matches(' ').parse().map_err(|_| TokenError::InvalidArgument)
}
