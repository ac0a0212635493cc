import OrderedJSON
import ServiceLifecycle

/// All ComfyUIs together: what they can run, and whether any can be reached.
final class WorkerPool: Service {
    let workers: [Worker]
    private let service: JobService
    /// How long ComfyUI may be away before blocked callers are told so; a restart stays invisible.
    let grace: Duration

    init(workers: [Worker], service: JobService, grace: Duration) {
        self.workers = workers
        self.service = service
        self.grace = grace
    }

    /// What all ComfyUIs together know of the workflow's classes; nil while no node list was read.
    func catalog(for workflow: Workflow) -> NodeCatalog? {
        let catalogs = workers.compactMap(\.catalog)
        return catalogs.isEmpty ? nil : NodeCatalog(of: workflow, from: catalogs)
    }

    /// Looks on every reachable ComfyUI for classes that were not there when its node list was read.
    func read(_ classes: Set<String>) async {
        for worker in workers where worker.status.isConnected {
            for name in classes { await worker.readClass(name) }
        }
    }

    /// Set when no ComfyUI could be reached for longer than the grace period.
    var unreachable: JobError? {
        let states = workers.map(\.status)
        guard states.allSatisfy({ ($0.disconnectedFor ?? .zero) > grace }) else { return nil }
        return .unreachable(reason: states.first?.reason ?? "no ComfyUI is configured")
    }

    func run() async throws {
        try await repeating(every: .milliseconds(500)) {
            if let error = self.unreachable { await self.service.failBlockedJobs(error) }
        }
    }
}
