import ComfyUI
import Jobs
import Logging
import Wording

/// What follows from the end of an attempt: for ComfyUI, and for the job.
extension Worker {
    func settle(_ job: Job, _ end: AttemptEnd, _ collected: OutputCollector) async {
        job.timeline.collected()
        noteHealth(end, of: job)
        if end == .stopped {
            // What was being taken back nobody else will take back. Not to be cut short by the stop itself.
            if job.status == .canceling || job.status.isTerminal { await Task { _ = await self.removeFromComfyUI(job) }.value }
            return
        }
        let attempts = job.endAttempt { $0.count(end, on: configuration.endpoint.description) }
        func conclude() -> Conclusion {
            Conclusion(
                of: end, status: job.status, attempts: attempts, retries: configuration.retries, hasOther: hasOther(for: job), failure: collected.failure)
        }
        guard case .again(let note) = conclude() else { return await finish(job, conclude()) }
        logger.warning("an attempt did not come to its end", metadata: .of(job.id, ["end": "\(end.words)"]))
        await prepareNextAttempt(of: job, after: end)
        // It may have been canceled meanwhile.
        guard case .again = conclude() else { return await finish(job, conclude()) }
        if let note { job.publish(.log(LogEntry(.warning, note))) }
        metrics.returned.add()
        job.timeline.returned(because: end.returnReason ?? note ?? "An attempt did not come to its end.")
        await service.putBack(job)
    }

    private func finish(_ job: Job, _ conclusion: Conclusion) async {
        guard case .end(let status, let error) = conclusion else { return }
        await service.end(job, status, error: error)
    }

    /// What the end of an attempt says about ComfyUI.
    private func noteHealth(_ end: AttemptEnd, of job: Job) {
        switch end {
        case .ended(.succeeded): noteSuccess()
        case .ended(.failed(let error)) where error.code == .deviceError: noteFault(.device(String(Substring(error.message.utf8.prefix { $0 != 0x0A && $0 != 0x0D }))))
        case .stuck(let reason, let wasRunning):
            noteStandstill(.stuck(reason, promptID: wasRunning ? job.id.description : nil), of: job)
        case .behind(let promptID, let since): noteStandstill(.behind(promptID: promptID, since: since), of: job)
        case .lost(.unreachable):
            noteEnd()
            giveUp(job)
        case .notDelivered, .notReached: noteDelivery(.failed)
        case .ended, .refused, .takenBack, .lost: noteEnd()
        case .stopped: break
        }
    }

    /// The attempt that is the first to say so tells the others.
    private func noteStandstill(_ fault: Rotation.Fault, of job: Job) {
        guard !isStuck else { return }
        noteFault(fault)
        inbox.announce(.stuck(fault), except: job.id)
    }

    private func prepareNextAttempt(of job: Job, after end: AttemptEnd) async {
        do { try await service.assets.remove(outputsOf: job) } catch {
            logger.error("outputs of a lost run could not be removed", metadata: .of(job.id, ["error": "\(NetworkWords.of(error))"]))
        }
        do {
            switch end {
            case .ended(.failed(let error)) where error.code == .outOfMemory:
                try await client.free(unloadModels: true, freeMemory: true)
                try await client.deleteHistory([job.id.description])
            case .ended, .lost(.results), .lost(.stalled): try await client.deleteHistory([job.id.description])
            case .lost, .stuck, .behind, .refused, .takenBack, .notDelivered, .notReached, .stopped: break
            }
        } catch {
            logger.log(level: Task.isCancelled ? .debug : .warning, "ComfyUI could not be prepared for another run", metadata: .of(job.id, ["error": "\(NetworkWords.of(error))"]))
        }
    }
}
