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

    /// The node classes of all ComfyUIs; nil while none was read.
    var catalog: NodeCatalog? {
        workers.compactMap(\.catalog).reduce(into: nil) { union, catalog in
            if union == nil { union = catalog } else { union?.formUnion(catalog) }
        }
    }

    /// Looks on every reachable ComfyUI for classes that are not in the catalog, and returns the catalog after that.
    func catalog(including classes: Set<String>) async -> NodeCatalog? {
        for worker in workers where worker.status.isConnected {
            for name in classes { _ = await worker.readClass(name) }
        }
        return catalog
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
