//! Commands: annotations that continue or abort a rollout.
//!
//! A command belongs to one rollout. An annotation that already had its value when a rollout began was meant for an
//! earlier rollout of the same revision, and is ignored until its value changes.

use std::sync::Arc;

/// A command in an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The value of the annotation.
    pub text: Arc<str>,
    /// The revision of the rollout that it is for.
    pub revision: Arc<str>,
    /// The step that it is about, counted from 1; all of them without one.
    pub step: Option<usize>,
}

impl Command {
    /// The command of that value, which is `<revision>`, or `<revision>/<step>` if a step `may_follow`, and whatever else
    /// after another `/`, so that a command can be given twice. `revision` is what the name of one stands for.
    ///
    /// What begins with a digit is meant as a step: where it is none, it would be dangerous to take it for all of them.
    pub(super) fn parse(
        text: &str,
        may_follow: bool,
        revision: impl Fn(&str) -> Option<Arc<str>>,
    ) -> Option<Self> {
        let mut parts = text.split('/');
        let revision = revision(parts.next()?)?;
        let is_step = |part: &&str| may_follow && part.starts_with(|first: char| first.is_ascii_digit());
        let step = match parts.next().filter(is_step) {
            Some(step) => Some(step.parse().ok()?),
            None => None,
        };
        Some(Self { text: text.into(), revision, step })
    }
}

/// The values of annotations that are not meant for a rollout, because they are older.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Of the one that continues.
    pub resume: Option<Arc<str>>,
    /// Of the one that aborts.
    pub abort: Option<Arc<str>>,
}

impl Ignored {
    /// The commands that are there when a rollout of `revision` begins.
    pub(super) fn at_start(resume: Option<&Command>, abort: Option<&Command>, revision: &str) -> Self {
        let text = |command: Option<&Command>| {
            let command = command.filter(|command| *command.revision == *revision);
            command.map(|command| Arc::clone(&command.text))
        };
        Self { resume: text(resume), abort: text(abort) }
    }

    /// Forgets values that the annotations no longer have: set again, they are new commands.
    pub(super) fn forget(&mut self, resume: Option<&Command>, abort: Option<&Command>) {
        let stands =
            |text: &Arc<str>, command: Option<&Command>| command.is_some_and(|command| command.text == *text);
        self.resume.take_if(|text| !stands(text, resume));
        self.abort.take_if(|text| !stands(text, abort));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_a_revision_and_may_name_a_step_and_be_given_twice() {
        let parse = |text: &str, may_follow| {
            let own = |name: &str| name.strip_prefix("web-").map(Into::into);
            let command = Command::parse(text, may_follow, own)?;
            Some((command.revision.to_string(), command.step))
        };
        let b = |step| Some(("b".to_owned(), step));
        assert_eq!((parse("web-b", true), parse("web-b/2", true)), (b(None), b(Some(2))));
        assert_eq!((parse("web-b/2/again", true), parse("web-b/again", false)), (b(Some(2)), b(None)));
        assert_eq!(
            (parse("web-b/again", true), parse("web-b/2nd", true)),
            (b(None), None),
            "a word is no step"
        );
        assert_eq!((parse("web-b/", true), parse("other-b", true)), (b(None), None));
    }
}
