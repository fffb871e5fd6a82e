//! Which module names which, in `use` declarations and in paths.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use syn::{
    Attribute, Item, ItemMod, ItemUse, Path, UseTree,
    visit::{self, Visit},
};

use crate::modules::Crate;

/// The modules that each module of a crate names, outside of its tests. A path counts for the innermost module that has
/// a file: `crate::plan::types::Plan` is about `plan::types`, and `crate::plan::Plan` about `plan`, also where that only
/// re-exports it.
///
/// # Panics
/// When a file cannot be read, or is no Rust.
pub fn imports(of: &Crate) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let named = of.modules.iter().filter(|(path, _)| path.last().is_none_or(|last| last != "tests"));
    let named = named.map(|(path, file)| {
        let text = fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader { of, file: path, inline: Vec::new(), named: BTreeSet::new() };
        reader.visit_file(&parsed);
        reader.named.remove(path);
        (path.clone(), reader.named)
    });
    named.collect()
}

struct Reader<'a> {
    of: &'a Crate,
    /// The module whose file is read.
    file: &'a [String],
    /// The modules within the file that lead to what is read.
    inline: Vec<String>,
    named: BTreeSet<Vec<String>>,
}

impl Reader<'_> {
    fn note(&mut self, segments: &[String]) {
        if let Some(found) = self.resolve(segments) {
            self.named.insert(found);
        }
    }

    /// The innermost module with a file that a path leads to; none when it leads out of the crate.
    fn resolve(&self, segments: &[String]) -> Option<Vec<String>> {
        let here: Vec<String> = self.file.iter().chain(&self.inline).cloned().collect();
        let mut at = here.clone();
        let mut rest = segments;
        match rest.first()?.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()?),
            // A path that begins with a name is about this crate where the name is that of a child.
            child => {
                at.push(child.to_owned());
                self.of.modules.contains_key(&at).then_some(())?;
            }
        }
        rest = &rest[1..];
        while rest.first().is_some_and(|segment| segment == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        for segment in rest {
            at.push(segment.clone());
            if !self.of.modules.contains_key(&at) {
                at.pop();
                break;
            }
        }
        while !self.of.modules.contains_key(&at) {
            at.pop()?;
        }
        Some(at)
    }

    fn note_tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_tree(before, &path.tree);
                before.pop();
            }
            UseTree::Name(name) => self.note_leaf(before, &name.ident.to_string()),
            UseTree::Rename(name) => self.note_leaf(before, &name.ident.to_string()),
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(before, tree)),
        }
    }

    fn note_leaf(&mut self, before: &[String], name: &str) {
        let is_itself = name == "self" && !before.is_empty();
        let last = (!is_itself).then(|| name.to_owned());
        let whole: Vec<String> = before.iter().cloned().chain(last).collect();
        self.note(&whole);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.inline.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.inline.pop();
    }

    fn visit_item_use(&mut self, declared: &'ast ItemUse) {
        self.note_tree(&mut Vec::new(), &declared.tree);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        // One segment alone is a name that a `use` has brought.
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let segments: Vec<String> =
                path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.note(&segments);
        }
        visit::visit_path(self, path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}
