//! Addresses and ports: plain strings, under the names of Istio's lists and of its attributes.

use super::super::Path;
use super::super::common::address_set;
use super::Section;
use crate::document::AuthorizationValue;
use meshfilter_core::policy::authorization::Condition;

impl Section<'_> {
    pub(super) fn ports(&self, values: &[String], path: &Path<'_>) -> Option<Condition> {
        Some(self.port_condition(values.iter().enumerate(), path))
    }

    pub(super) fn direct_peer(&self, blocks: &[String], path: &Path<'_>) -> Option<Condition> {
        Some(self.direct_peer_condition(blocks.iter().enumerate(), path))
    }

    pub(super) fn client(&self, blocks: &[String], path: &Path<'_>) -> Option<Condition> {
        Some(self.client_condition(blocks.iter().enumerate(), path))
    }

    pub(super) fn port_values(&self, values: &[AuthorizationValue], path: &Path<'_>) -> Option<Condition> {
        Some(self.port_condition(self.plain(values, path), path))
    }

    pub(super) fn direct_peer_values(
        &self,
        values: &[AuthorizationValue],
        path: &Path<'_>,
    ) -> Option<Condition> {
        Some(self.direct_peer_condition(self.plain(values, path), path))
    }

    pub(super) fn client_values(&self, values: &[AuthorizationValue], path: &Path<'_>) -> Option<Condition> {
        Some(self.client_condition(self.plain(values, path), path))
    }

    pub(super) fn destination_values(
        &self,
        values: &[AuthorizationValue],
        path: &Path<'_>,
    ) -> Option<Condition> {
        let blocks = address_set(self.plain(values, path), path, self.cx);
        Some(Condition::Address(self.cx.attribute(&["destination", "address"]), blocks))
    }

    fn direct_peer_condition<'v>(
        &self,
        blocks: impl Iterator<Item = (usize, &'v String)>,
        path: &Path<'_>,
    ) -> Condition {
        let id = self.cx.attribute(&["filter_state", "meshfilter.direct_remote_address"]);
        Condition::DirectAddress(id, address_set(blocks, path, self.cx))
    }

    fn client_condition<'v>(
        &self,
        blocks: impl Iterator<Item = (usize, &'v String)>,
        path: &Path<'_>,
    ) -> Condition {
        Condition::Address(self.cx.attribute(&["source", "address"]), address_set(blocks, path, self.cx))
    }

    fn port_condition<'v>(
        &self,
        values: impl Iterator<Item = (usize, &'v String)>,
        path: &Path<'_>,
    ) -> Condition {
        let mut ports = Vec::new();
        for (index, text) in values {
            let place = path.index(index);
            match text.parse::<u16>() {
                _ if self.cx.errors.any_within(&place) => {}
                Ok(port) if text.bytes().all(|byte| byte.is_ascii_digit()) => ports.push(port),
                _ => self.cx.errors.add(
                    &place,
                    format_args!("\"{text}\" is not a port; use a whole number from 0 to 65535 in quotes"),
                ),
            }
        }
        Condition::Port(self.cx.attribute(&["destination", "port"]), ports.into())
    }

    /// The strings of a list in which nothing else may stand, with their places.
    fn plain<'v>(
        &self,
        values: &'v [AuthorizationValue],
        path: &Path<'_>,
    ) -> impl Iterator<Item = (usize, &'v String)> {
        values.iter().enumerate().filter_map(|(index, value)| match value {
            AuthorizationValue::Text(text) => Some((index, text)),
            _ => {
                self.cx.errors.add(&path.index(index), "addresses and ports are strings; use one");
                None
            }
        })
    }
}
