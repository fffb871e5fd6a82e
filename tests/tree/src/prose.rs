//! What people read, out of the files that hold it: text without code in backticks.

use std::{ffi::OsStr, fs, path::Path};

use syn::{
    Attribute, File, Item, ItemMod, LitStr, Macro, Meta, braced, bracketed, parenthesized,
    parse::{ParseStream, Parser},
    token,
    visit::{self, Visit},
};

/// Reads the prose of a file, by its kind; a kind that has none is empty. Of Rust it is string literals, and the doc comment of
/// each item; tests within the file are left out.
///
/// # Panics
/// When the file cannot be read, or is no Rust although its name says so.
pub fn prose(file: &Path) -> Vec<String> {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
    match file.extension().and_then(OsStr::to_str) {
        Some("rs") => {
            rust(&syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
        }
        // Paragraphs: a phrase may go over the end of a line, and backticks close within one.
        Some("md") => text.split("\n\n").map(uncoded).collect(),
        Some("yaml" | "tpl" | "txt" | "json" | "sh") => {
            let lines = text.lines().map(|line| line.trim_start().trim_start_matches('#').to_owned() + "\n");
            vec![uncoded(&lines.collect::<String>())]
        }
        _ => Vec::new(),
    }
}

fn rust(file: &File) -> Vec<String> {
    let mut reader = Reader::default();
    reader.visit_file(file);
    reader.end_of_docs();
    reader.found
}

#[derive(Default)]
struct Reader {
    found: Vec<String>,
    /// The lines of the doc comment that is being read.
    docs: String,
}

impl Reader {
    fn end_of_docs(&mut self) {
        if !self.docs.is_empty() {
            self.found.push(uncoded(&std::mem::take(&mut self.docs)));
        }
    }

    /// The string literals among tokens, as those of `format!` or of `#[error(…)]`.
    fn literals(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        while !input.is_empty() {
            let within;
            if input.peek(LitStr) {
                self.visit_lit_str(&input.parse()?);
            } else if input.peek(token::Paren) {
                parenthesized!(within in input);
                self.literals(&within)?;
            } else if input.peek(token::Bracket) {
                bracketed!(within in input);
                self.literals(&within)?;
            } else if input.peek(token::Brace) {
                braced!(within in input);
                self.literals(&within)?;
            } else {
                input.step(|cursor| {
                    let (_, rest) = cursor.token_tree().expect("the input is not empty");
                    Ok(((), rest))
                })?;
            }
        }
        Ok(())
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        self.end_of_docs();
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"));
        if !is_test {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => {
                if let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(line), .. }) = &pair.value {
                    self.docs.push_str(&line.value());
                    self.docs.push('\n');
                }
            }
            Meta::List(list) => {
                let tokens = list.tokens.clone();
                (|input: ParseStream<'_>| self.literals(input))
                    .parse2(tokens)
                    .expect("tokens of an attribute");
            }
            _ => visit::visit_attribute(self, attribute),
        }
    }

    fn visit_ident(&mut self, _: &'ast syn::Ident) {
        self.end_of_docs();
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        let tokens = called.tokens.clone();
        (|input: ParseStream<'_>| self.literals(input)).parse2(tokens).expect("tokens of a macro");
    }

    fn visit_lit_str(&mut self, literal: &'ast LitStr) {
        self.found.push(uncoded(&literal.value()));
    }
}

/// The text without what stands between backticks.
fn uncoded(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join(" … ")
}
