//! The subjects that the node listens to.

use std::collections::BTreeSet;

use jetwake::subject::Subject;

/// Subjects of `Subscribe`: literal ones, and ones whose last token is `*`.
#[derive(Debug, Default)]
pub struct Interest {
    literal: BTreeSet<Subject>,
    /// The subjects before their `*`, up to and with the last dot.
    prefixes: BTreeSet<Vec<u8>>,
}

impl Interest {
    /// Listens.
    pub fn add(&mut self, subject: Subject) {
        match subject.as_bytes().strip_suffix(b"*") {
            Some(prefix) => self.prefixes.insert(prefix.to_vec()),
            None => self.literal.insert(subject),
        };
    }

    /// Listens no longer.
    pub fn remove(&mut self, subject: &Subject) {
        match subject.as_bytes().strip_suffix(b"*") {
            Some(prefix) => self.prefixes.remove(prefix),
            None => self.literal.remove(subject),
        };
    }

    /// Whether somebody listens to this literal subject.
    pub fn covers(&self, subject: &Subject) -> bool {
        self.literal.contains(subject) || {
            let bytes = subject.as_bytes();
            let token = bytes.iter().rposition(|byte| *byte == b'.').map_or(0, |dot| dot + 1);
            token < bytes.len()
                && bytes.get(..token).is_some_and(|prefix| self.prefixes.contains(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_token() {
        let mut interest = Interest::default();
        let subject = Subject::from_static;
        interest.add(subject("$NRG.V.group"));
        interest.add(subject("$JSC.ACK.abc.*"));
        assert!(interest.covers(&subject("$NRG.V.group")));
        assert!(interest.covers(&subject("$JSC.ACK.abc.17")));
        for unheard in ["$NRG.V", "$NRG.V.group.x", "$JSC.ACK.abc.", "$JSC.ACK.abc.1.2", ""] {
            assert!(!interest.covers(&subject(unheard)), "{unheard}");
        }
        interest.remove(&subject("$JSC.ACK.abc.*"));
        interest.remove(&subject("$NRG.V.group"));
        assert!(!interest.covers(&subject("$JSC.ACK.abc.17")));
        assert!(!interest.covers(&subject("$NRG.V.group")));
    }
}
