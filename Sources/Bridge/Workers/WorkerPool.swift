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

    /// Whether one of them has all of the workflow's classes, or may have: no node list was read of it yet.
    func canRun(_ workflow: Workflow) -> Bool {
        workers.contains { $0.catalog?.unknownClasses(in: workflow).isEmpty ?? true }
    }

    /// Looks on every reachable ComfyUI for classes that were not there when its node list was read.
    func read(_ classes: Set<String>) async {
        for worker in workers where worker.status.isConnected {
            for name in classes { await worker.readClass(name) }
        }
    }

    /// Set when no ComfyUI could be reached, or all that can be are stuck, for longer than the grace period.
    var unreachable: JobError? {
        let states = workers.map(\.status)
        guard states.allSatisfy({ ($0.unavailableFor ?? .zero) > grace }) else { return nil }
        return .unreachable(reason: states.first?.reason ?? "no ComfyUI is configured")
    }

    /// Ends the queued jobs that no ComfyUI can run (any more): one was started with other node packs.
    private func failHomelessJobs() async {
        guard workers.count > 1 else { return }  // a lone ComfyUI says it itself
        let homeless = service.queue.removeAll { !self.canRun($0.submission.workflow) }
        for job in homeless { await service.end(job, .failed, error: JobError(code: .invalidWorkflow, message: WorkflowFault.scattered.message, faults: [.scattered])) }
    }

    func run() async throws {
        try await repeating(every: .milliseconds(500)) {
            await self.failHomelessJobs()
            if let error = self.unreachable { await self.service.failBlockedJobs(error) }
        }
    }
}
