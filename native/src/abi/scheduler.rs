use std::ptr::NonNull;

use super::raw;

/// Wakes a filter on its worker, or a configuration on the main thread. It is deleted with the value.
#[derive(Debug)]
pub struct Scheduler {
    pointer: NonNull<std::ffi::c_void>,
    of_filter: bool,
}

// SAFETY: Envoy lets every thread commit and delete.
unsafe impl Send for Scheduler {}

impl Scheduler {
    pub(super) fn of_filter(pointer: raw::SchedulerPointer) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Scheduler { pointer, of_filter: true })
    }

    pub(super) fn of_configuration(pointer: raw::SchedulerPointer) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Scheduler { pointer, of_filter: false })
    }

    /// Makes Envoy call the hook `scheduled`. Where the filter or the configuration is gone, nothing happens.
    pub fn commit(&self) {
        let commit = if self.of_filter {
            raw::envoy_dynamic_module_callback_http_filter_scheduler_commit
        } else {
            raw::envoy_dynamic_module_callback_http_filter_config_scheduler_commit
        };
        // SAFETY: the scheduler is deleted with this value, and not before.
        unsafe { commit(self.pointer.as_ptr(), 0) };
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let delete = if self.of_filter {
            raw::envoy_dynamic_module_callback_http_filter_scheduler_delete
        } else {
            raw::envoy_dynamic_module_callback_http_filter_config_scheduler_delete
        };
        // SAFETY: made by Envoy, owned by this value, and deleted once.
        unsafe { delete(self.pointer.as_ptr()) };
    }
}
