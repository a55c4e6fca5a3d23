//! Rules for responses: `header`, `error_page`, `intercept_errors`; for all and for one location.

use std::path::Path;
use std::sync::Arc;

use super::Resolver;
use super::tables::Given;
use crate::config::error::ConfigError;
use crate::config::response_rules::charset;
use crate::config::{ErrorPage, HeaderRule, Location, ResponseRules, StaticLocation, values};

impl Resolver<'_> {
    /// The rules for all locations, and for errors outside of them.
    pub(super) fn response_rules(
        &mut self,
        chdir: &Path,
    ) -> Result<Arc<ResponseRules>, ConfigError> {
        let headers = self.many("header", HeaderRule::parse)?;
        let pages = self.many("error_page", |text| ErrorPage::parse(text, chdir))?;
        Ok(Arc::new(ResponseRules {
            headers: headers.unwrap_or_default(),
            error_pages: exact_first(pages.unwrap_or_default()),
            intercept_errors: self.one("intercept_errors", values::yes_or_no)?,
            charset: self.one("charset", charset)?,
        }))
    }

    /// Warns once of each error page that cannot be read.
    pub(super) fn warn_of_pages(
        &mut self,
        general: &ResponseRules,
        locations: &[Location],
        files: &[StaticLocation],
    ) {
        let own = locations.iter().map(|location| &*location.rules);
        let own = own.chain(files.iter().map(|location| &*location.rules));
        let pages = std::iter::once(general)
            .chain(own)
            .flat_map(|rules| &rules.error_pages)
            .filter_map(|given| given.page.as_ref()?.problem());
        for problem in pages {
            let warning = format!(
                "{problem}: its errors have the built-in page (correct error_page and reload)"
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }
}

impl Given<'_> {
    /// The rules of the location: `general` behind or below its own.
    pub(super) fn response_rules(
        &self,
        general: &Arc<ResponseRules>,
        chdir: &Path,
    ) -> Result<Arc<ResponseRules>, ConfigError> {
        let inherit = self.one("header_inherit", values::yes_or_no)?;
        let headers = self.many("header", HeaderRule::parse)?;
        let pages = self.many("error_page", |text| ErrorPage::parse(text, chdir))?;
        let intercept = self.optional("intercept_errors", values::yes_or_no)?;
        let charset = self.optional("charset", charset)?;
        let has_own = headers.is_some() || pages.is_some() || intercept.is_some();
        if inherit && !has_own && charset.is_none() {
            return Ok(Arc::clone(general));
        }
        let mut rules = ResponseRules::clone(general);
        if !inherit {
            rules.headers.clear();
        }
        rules.headers.extend(headers.unwrap_or_default());
        let own = exact_first(pages.unwrap_or_default());
        rules.error_pages.splice(..0, own);
        rules.charset = charset.unwrap_or_else(|| rules.charset.take());
        rules.intercept_errors = intercept.unwrap_or(rules.intercept_errors);
        Ok(Arc::new(rules))
    }
}

/// Pages for one status before those for a class.
fn exact_first(pages: Vec<Vec<ErrorPage>>) -> Vec<ErrorPage> {
    let mut pages: Vec<_> = pages.into_iter().flatten().collect();
    // Stable: of two for the same status the first applies.
    pages.sort_by_key(|page| page.from != page.to);
    pages
}
