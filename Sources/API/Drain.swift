package import Jobs
package import Logging
import ServiceLifecycle
import Synchronization

/// The end of the bridge: from the signal on it takes no new work. Told before the server, so that nobody is promised anything while the
/// services stop one after the other.
package final class Drain: Service {
    /// Whether the jobs that are not over will be there again after a restart.
    package let keepsJobs: Bool
    private let logger: Logger
    private let hasBegun = Atomic(false)

    package init(keepsJobs: Bool, logger: Logger) {
        self.keepsJobs = keepsJobs
        self.logger = logger
    }

    var isDraining: Bool { hasBegun.load(ordering: .relaxed) }

    package func run() async {
        do { try await gracefulShutdown() } catch { return }  // cancelled: nothing is drained
        hasBegun.store(true, ordering: .relaxed)
        logger.notice("shutting down")
    }

    /// What a caller is told that is sent away before its job is over.
    package func message(about status: JobStatus) -> String {
        if keepsJobs { return "The bridge is being stopped. The job goes on; ask for it at its Location when the bridge is back." }
        if status == .queued {
            return "The bridge is being stopped and keeps nothing (--data-dir none): the job is lost. Submit it again when the bridge is back."
        }
        return "The bridge is being stopped and keeps nothing (--data-dir none): ComfyUI goes on with the job, but the bridge will not know it any more. "
            + "Look for the results in ComfyUI's output folder."
    }
}
