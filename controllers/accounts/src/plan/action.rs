//! The actions that a plan consists of.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use super::types::{Account, Binding, Copy, CopyView, Fields, OutputView, Part, SeenAt, Token};

/// One thing to be done. Each is safe to do again.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make an account.
    MakeAccount(Arc<str>, Arc<str>, Account),
    /// Update or adopt an account: policy, name, UID, its desired content, whether it is adopted.
    UpdateAccount {
        /// The policy.
        policy: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// Its UID.
        uid: Box<str>,
        /// Its version.
        version: SeenAt,
        /// What it should be; of its pull secrets those that the policy gives, and its owner did not.
        account: Account,
        /// All pull secrets that it is to have.
        pull_secrets: BTreeSet<Arc<str>>,
        /// What the policy gave it and gives no more.
        stale: Fields,
        /// Whether it is adopted from another owner.
        adopted: bool,
    },
    /// Make a binding.
    MakeBinding(Arc<str>, Arc<str>, Binding),
    /// Bring a binding to what it should be; `anew` where its role is another, which cannot be changed.
    UpdateBinding {
        /// The policy.
        policy: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// Its UID.
        uid: Box<str>,
        /// What it should be.
        binding: Binding,
        /// Whether it is deleted and recreated.
        anew: bool,
        /// Whether it is adopted from another owner.
        adopted: bool,
        /// Whether it is so now, as far as the watch shows: who is bound is its owner's choice still.
        first: bool,
    },
    /// Copy a pull secret: policy, name, source, and the existing copy.
    Copy(Arc<str>, Arc<str>, Copy, Option<Box<CopyView>>),
    /// Issue a token: into this Secret, with this handle where there is one that has no token yet.
    Issue {
        /// The policy.
        policy: Arc<str>,
        /// The Secret's name.
        output: Arc<str>,
        /// What it should be.
        token: Token,
        /// The word for that.
        made_for: Box<str>,
        /// The Secret as it is.
        standing: Option<Box<OutputView>>,
        /// A handle that was made for it and has no token.
        handle: Option<(Arc<str>, Box<str>)>,
        /// Why.
        why: Why,
    },
    /// Put a policy's mark back on a Secret that it has made, as this part, with this name and UID.
    Mark(Arc<str>, Part, Arc<str>, Box<str>),
    /// Delete what a policy made, or what it is done with.
    Delete(Part, Arc<str>, Box<str>),
    /// Take a policy's mark off an object, and leave it as it is.
    Release(Part, Arc<str>, Box<str>),
    /// Take a policy's mark off an adopted binding, and the accounts that the policy has bound: name and UID.
    RestoreBinding(Arc<str>, Box<str>),
    /// Remove a policy's ownership label from an adopted account, and all that the policy has added.
    Restore {
        /// Its name.
        name: Arc<str>,
        /// Its UID.
        uid: Box<str>,
        /// Its version.
        version: SeenAt,
        /// The pull secrets that it keeps.
        pull_secrets: BTreeSet<Arc<str>>,
        /// What the policy has given it besides.
        stale: Fields,
    },
}

/// Why a token is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    First,
    /// It has lived for long enough.
    Renewal,
    /// The policy says something else of it.
    Changed,
    /// Its revocation was requested.
    Revoked,
}

/// Why a policy cannot give what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The policy.
    pub policy: Arc<str>,
    /// As a condition names it.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// What a reconcile is to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// Why something is not done.
    pub problems: Vec<Problem>,
    /// How many of the actions revert changes by others.
    pub repairs: usize,
    /// When time alone changes the plan.
    pub due: Option<Timestamp>,
}
