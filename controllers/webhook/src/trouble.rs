//! What keeps a webhook from working.

use std::sync::Arc;

use parking_lot::RwLock;

/// What is wrong, as a sentence; `None` when nothing is.
pub(crate) type Trouble = Arc<RwLock<Option<String>>>;
