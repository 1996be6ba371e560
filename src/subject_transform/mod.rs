//! Turns the subject of a message into another, as a stream's configuration says.
//!
//! Upstream: `server/subject_transform.go` and `ValidateMapping` in `server/sublist.go`. A transform has
//! a source, which subjects match, and a destination, some tokens of which are made of those that the
//! source's `*` stand for: `$1`, `{{wildcard(1)}}`, `{{partition(10,1,2)}}`, `{{split(1,-)}}`,
//! `{{splitFromLeft(1,3)}}`, `{{splitFromRight(1,3)}}`, `{{sliceFromLeft(1,3)}}`,
//! `{{sliceFromRight(1,3)}}`, `{{left(1,3)}}`, `{{right(1,3)}}`, `{{random(10)}}`.
//!
//! Every replica transforms by itself, so what is random is drawn from a number that all of them know.
//! Upstream's check of a stream forgets `left` and `right`, which its transforms have; here they do.

mod parse;

use alloc::string::String;
use alloc::vec::Vec;

use thiserror::Error;

use crate::random::Random;
use crate::subject;
use parse::Function;

/// What is wrong with a transform, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransformError {
    /// The source is no subject.
    #[error("invalid subject {0}")]
    Source(String),
    /// The destination is no subject, has a `*`, or has a `>` where the source has none or the other way
    /// round.
    #[error("invalid subject")]
    Subject,
    /// A token of the destination has white space.
    #[error("invalid mapping destination: invalid transform")]
    Space,
    /// A token of the destination is not as it must be.
    #[error("invalid mapping destination: {kind} in {token}")]
    Token {
        /// The token, and the index that there is not.
        token: String,
        /// What is wrong with it.
        kind: TokenError,
    },
}

/// What is wrong with a token of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is empty, or stands behind a `>`.
    #[error("invalid transform")]
    Invalid,
    /// There is no such function.
    #[error("unknown function")]
    UnknownFunction,
    /// The source has not so many `*`.
    #[error("wildcard index out of range")]
    IndexOutOfRange,
    /// Too few arguments.
    #[error("not enough arguments passed to the function")]
    NotEnoughArguments,
    /// Too many arguments.
    #[error("too many arguments passed to the function")]
    TooManyArguments,
    /// An argument is no number that will do, or a delimiter with a space.
    #[error("function argument is invalid or in the wrong format")]
    InvalidArgument,
}

/// A transformed subject that is longer than 65,535 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the transformed subject is longer than {LONGEST} bytes")]
pub struct TooLong;

/// Bytes of a subject at most, as messages carry it.
const LONGEST: usize = u16::MAX as usize;

/// A transform that can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    source: String,
    /// The destination, token by token.
    pieces: Vec<Piece>,
    /// Whether the tokens behind this many follow, which the source's `>` stands for.
    rest: Option<usize>,
}

/// One token of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What is made of tokens of the subject, by their places.
    Made(Function),
}

impl Transform {
    /// The transform from `source`, all subjects if it is empty; none if `destination` is empty.
    ///
    /// # Errors
    /// [`TransformError`] with upstream's texts.
    pub fn new(source: &str, destination: &str) -> Result<Option<Self>, TransformError> {
        if !source.is_empty() && !subject::is_valid_filter(source.as_bytes()) {
            return Err(TransformError::Source(source.into()));
        }
        if destination.is_empty() {
            return Ok(None);
        }
        parse::check_tokens(destination)?;
        let source = if source.is_empty() { ">" } else { source };
        let tokens: Vec<&str> = source.split('.').collect();
        let rest = tokens.last() == Some(&">");
        let follows = destination.split('.').next_back() == Some(">");
        if rest != follows || destination.split('.').any(|token| token == "*") {
            return Err(TransformError::Subject);
        }
        let wildcards: Vec<usize> =
            (0..tokens.len()).filter(|place| tokens.get(*place) == Some(&"*")).collect();
        let literal = wildcards.is_empty() && !rest;
        let pieces = destination.split('.').filter(|token| *token != ">");
        let pieces = pieces.map(|token| piece(token, &wildcards, literal));
        let pieces = pieces.collect::<Result<_, _>>()?;
        let rest = rest.then(|| tokens.len() - 1);
        Ok(Some(Self { source: source.into(), pieces, rest }))
    }

    /// Whether something in it is random.
    pub fn is_random(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Made(Function::Random { .. })))
    }

    /// What becomes of a subject; none if it stays as it is. What is random follows from `number`.
    ///
    /// # Errors
    /// [`TooLong`] if no message could have the subject.
    pub fn apply(&self, subject: &[u8], number: u64) -> Result<Option<Vec<u8>>, TooLong> {
        let everything = self.source == ">" && self.pieces.is_empty();
        if everything || !subject::matches(self.source.as_bytes(), subject) {
            return Ok(None);
        }
        let tokens: Vec<&[u8]> = subject.split(|byte| *byte == b'.').collect();
        let mut out = Vec::with_capacity(subject.len().saturating_mul(2));
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Made(function) => function.write(&tokens, subject, number, &mut out),
            }
            if out.len() > LONGEST {
                return Err(TooLong);
            }
            out.push(b'.');
        }
        let rest = self.rest.and_then(|place| tokens.get(place..)).unwrap_or_default();
        for token in rest {
            out.extend_from_slice(token);
            out.push(b'.');
        }
        // The dot behind the last one.
        out.pop();
        if out.len() > LONGEST { Err(TooLong) } else { Ok(Some(out)) }
    }
}

/// A token of a destination. `wildcards` has the places of the source's `*`.
fn piece(token: &str, wildcards: &[usize], literal: bool) -> Result<Piece, TransformError> {
    let Some(mut function) = parse::function(token)? else {
        return Ok(Piece::Text(token.into()));
    };
    let wrong = |token: String| TransformError::Token { token, kind: TokenError::IndexOutOfRange };
    let whole = match &mut function {
        Function::Random { .. } => true,
        Function::Partition { tokens, .. } => {
            if literal {
                // There is nothing to choose among.
                tokens.clear();
            }
            true
        }
        _ => false,
    };
    if literal && !whole {
        return Err(wrong(token.into()));
    }
    for index in function.indexes() {
        *index = match usize::try_from(*index) {
            Ok(found) if found > wildcards.len() => {
                return Err(wrong(alloc::format!("{token}: [{index}]")));
            }
            // As upstream has it, what is below one stands for the subject's first token.
            found => {
                let found = found.ok().and_then(|found| found.checked_sub(1));
                let place = found.and_then(|found| wildcards.get(found)).copied();
                i64::try_from(place.unwrap_or(0)).unwrap_or(0)
            }
        };
    }
    Ok(Piece::Made(function))
}

impl Function {
    /// Writes what it makes of the tokens of a subject.
    fn write(&self, tokens: &[&[u8]], subject: &[u8], number: u64, out: &mut Vec<u8>) {
        let token = |place: &i64| {
            let place = usize::try_from(*place).ok();
            place.and_then(|place| tokens.get(place)).copied().unwrap_or_default()
        };
        match self {
            Self::Wildcard(place) => out.extend_from_slice(token(place)),
            Self::Partition { buckets, tokens } => {
                let mut hash = Fnv32a::default();
                match tokens.is_empty() {
                    true => hash.write(subject),
                    false => tokens.iter().for_each(|place| hash.write(token(place))),
                }
                // A number below zero is a large one, as upstream has it.
                write_number(hash.0.checked_rem(*buckets as u32).unwrap_or(0), out);
            }
            Self::Random { below } => {
                let drawn = (Random::new(number).bits() >> 33) as u32;
                write_number(drawn.checked_rem(below.unsigned_abs()).unwrap_or(0), out);
            }
            Self::Split { token: place, delimiter } => split(token(place), delimiter, out),
            Self::Cut { cut, token: place, size } => {
                let token = token(place);
                match usize::try_from(*size).ok().filter(|size| (1..token.len()).contains(size)) {
                    Some(size) => cut.write(token, size, out),
                    None => out.extend_from_slice(token),
                }
            }
        }
    }
}

impl parse::Cut {
    /// `size` is at least one, and less than the token's length.
    fn write(self, token: &[u8], size: usize, out: &mut Vec<u8>) {
        let (start, end) = (size, token.len() - size);
        match self {
            Self::Left => out.extend_from_slice(&token[..start]),
            Self::Right => out.extend_from_slice(&token[end..]),
            Self::SplitFromLeft => join([&token[..start], &token[start..]], out),
            Self::SplitFromRight => join([&token[..end], &token[end..]], out),
            Self::SliceFromLeft => join(token.chunks(size), out),
            Self::SliceFromRight => {
                let (first, others) = token.split_at(token.len() % size);
                join(
                    [first]
                        .into_iter()
                        .filter(|first| !first.is_empty())
                        .chain(others.chunks(size)),
                    out,
                );
            }
        }
    }
}

fn join<'a>(parts: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (place, part) in parts.into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(part);
    }
}

/// What lies between the delimiters of a token, as tokens; of nothing there is none.
fn split(token: &[u8], delimiter: &str, out: &mut Vec<u8>) {
    let parts = between(token, delimiter.as_bytes());
    for (place, part) in parts.iter().enumerate() {
        out.extend_from_slice(part);
        let more = parts.get(place + 1).is_some_and(|next| !next.is_empty());
        if more && !(place == 0 && part.is_empty()) {
            out.push(b'.');
        }
    }
}

/// Upstream: `strings.Split`, which without a delimiter gives the characters.
fn between<'a>(text: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let (mut parts, mut rest) = (Vec::new(), text);
    if delimiter.is_empty() {
        while let Some(first) = rest.utf8_chunks().next() {
            let length = first.valid().chars().next().map_or(1, char::len_utf8);
            let (part, others) = rest.split_at(length);
            parts.push(part);
            rest = others;
        }
        return parts;
    }
    while let Some(at) = rest.windows(delimiter.len()).position(|found| found == delimiter) {
        parts.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    parts.push(rest);
    parts
}

fn write_number(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(alloc::format!("{number}").as_bytes());
}

/// The hash by which upstream partitions.
struct Fnv32a(u32);

impl Default for Fnv32a {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv32a {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests;
