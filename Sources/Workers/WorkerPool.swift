package import Jobs
package import OrderedJSON
import ServiceLifecycle
import Wording
package import Workflow

/// All ComfyUIs together: what they can run, and whether any can be reached.
package final class WorkerPool: Service {
    package let workers: [Worker]
    private let service: JobService
    /// How long ComfyUI may be away before blocked callers are told so; a restart stays invisible.
    package let grace: Duration

    package init(workers: [Worker], service: JobService, grace: Duration) {
        self.workers = workers
        self.service = service
        self.grace = grace
    }

    /// What all ComfyUIs together know of the workflow's classes; nil while no node list was read.
    package func catalog(for workflow: Workflow) -> NodeCatalog? {
        let catalogs = workers.compactMap(\.catalog)
        return catalogs.isEmpty ? nil : NodeCatalog(of: workflow, from: catalogs)
    }

    /// Whether one of them has all of the workflow's classes, or may have: no node list was read of it yet.
    package func canRun(_ workflow: Workflow) -> Bool {
        workers.contains { $0.catalog?.unknownClasses(in: workflow).isEmpty ?? true }
    }

    /// Looks on every reachable ComfyUI for classes that were not there when its node list was read.
    package func read(_ classes: Set<Name>) async {
        for worker in workers where worker.status.isConnected {
            for name in classes { await worker.readClass(name) }
        }
    }

    /// Set when no ComfyUI could be reached, or all that can be are stuck, for longer than the grace period.
    package var unreachable: JobError? {
        let states = workers.map(\.status)
        guard states.allSatisfy({ ($0.unavailableFor ?? .zero) > grace }) else { return nil }
        return .unreachable(reason: states.first?.reason ?? "no ComfyUI is configured")
    }

    /// The same for a caller that is about to block: those that are away are tried at once, before it is sent away.
    package func refusal() async -> JobError? {
        // Twice: an attempt that is under way already may have begun just before ComfyUI was there.
        for _ in 1...2 where unreachable != nil {
            await withDiscardingTaskGroup { group in
                for worker in workers where !worker.inbox.isConnected { group.addTask { await worker.reach(atMost: .seconds(2)) } }
            }
        }
        return unreachable
    }

    /// The same for a job that was accepted, and a caller that blocks for it.
    package func unreachable(for job: Job) -> JobError? {
        if let owner = workers.first(where: { $0.inbox.isOpen(job.id.description) }) {
            // One that is there judges itself.
            let status = owner.status
            return status.isConnected ? nil : error(of: [status])
        }
        let able = workers.filter { $0.canRun(job) }
        return error(of: (able.isEmpty ? workers : able).map(\.status))
    }

    private func error(of states: [Worker.Status]) -> JobError? {
        guard let first = states.first, states.allSatisfy({ ($0.unavailableFor ?? .zero) > grace }) else { return nil }
        return first.standstill.map(JobError.stuck) ?? .unreachable(reason: first.reason ?? "it is not connected")
    }

    /// Ends the queued jobs that only blocked callers want, once every ComfyUI that could run them has been away, or stuck, for longer than the
    /// grace period. The others wait on, without callers that block.
    private func failBlockedJobs() async {
        guard workers.contains(where: { ($0.status.unavailableFor ?? .zero) > grace }) else { return }
        for job in service.queue.jobs {
            guard let error = unreachable(for: job) else { continue }
            guard job.failsWhenUnreachable, service.queue.remove(job) else {
                job.turnAwayCallers()
                continue
            }
            await service.end(job, .failed, error: error)
        }
    }

    /// Whether one of them may be able to run a job that waits. A job that was checked before waits for a ComfyUI whose node list is not known
    /// (yet, after a restart); any other only for as long as a caller would.
    private func mayRun(_ submission: Submission) -> Bool {
        let isChecked = !submission.outputNodes.isEmpty
        return workers.contains { worker in
            guard let catalog = worker.catalog else { return isChecked || (worker.status.unavailableFor ?? .zero) <= grace }
            return catalog.unknownClasses(in: submission.workflow).isEmpty
        }
    }

    /// Ends the queued jobs that no ComfyUI can run (any more): one was started with other node packs, or none was there to ask at the submission.
    private func failHomelessJobs() async {
        guard workers.count > 1, workers.contains(where: { $0.catalog != nil }) else { return }  // a lone ComfyUI says it itself
        let homeless = service.queue.removeAll { !self.mayRun($0.submission) }
        for job in homeless {
            let workflow = job.submission.workflow
            let faults = WorkflowFaults(catalog(for: workflow)?.faults(in: workflow).filter { $0.reason == "missing_node_type" } ?? [])
            await service.end(job, .failed, error: .invalid(faults.isEmpty ? [.scattered] : faults))
        }
    }

    package func run() async throws {
        try await repeating(every: .milliseconds(500)) {
            await self.failHomelessJobs()
            await self.failBlockedJobs()
        }
    }
}
