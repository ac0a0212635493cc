import ComfyUI
import FoundationEssentials
package import Jobs
import Logging
import NIOCore
import Wording
import Workflow

/// One job inside this ComfyUI, from the submit to its end.
extension Worker {
    /// How a worker comes by a job.
    package enum Entry: Sendable { case submit, adopt }

    package func attempt(_ job: Job, _ channel: PromptInbox.Channel, _ entry: Entry) async {
        defer { inbox.close(job.id, channel) }
        let isWanted = job.taken(cancelHandler: { channel.send(.cancel) })
        guard isWanted || entry == .adopt else {
            hasSubmitted(job)
            noteEnd()
            await service.end(job, .canceled, error: .canceledByCaller)
            return
        }
        job.timeline.taken(for: configuration.endpoint.description)
        await service.assign(job, to: configuration.endpoint.description)
        // Without a bound: what waits here are this attempt's own results, for the disk or for ComfyUI to tell their size.
        let (items, collected) = AsyncStream.makeStream(of: OutputCollector.Item.self)
        async let collection = collect(items, of: job)
        if !isWanted { channel.send(.cancel) }
        let fault = entry == .submit ? await check(job) : nil
        if fault != nil { hasSubmitted(job) }
        let end = if let fault { AttemptEnd.refused(fault) } else { await follow(job, channel, entry, collecting: collected) }
        collected.finish()
        let found = await collection
        // At a stop results may be left where they are; the job is then not over, and the bridge after this one fetches them.
        await settle(job, Task.isCancelled ? .stopped : end, found)
    }

    private func collect(_ items: AsyncStream<OutputCollector.Item>, of job: Job) async -> OutputCollector {
        var collector = OutputCollector(job: job, client: client, assets: service.assets, logger: logger)
        for await item in items { await collector.collect(item) }
        return collector
    }

    /// Hands the attempt what happens, and does what it wants. What takes time is a child task that reports back through the channel, so that
    /// messages are handled as they come.
    private func follow(
        _ job: Job, _ channel: PromptInbox.Channel, _ entry: Entry, collecting collected: AsyncStream<OutputCollector.Item>.Continuation
    ) async -> AttemptEnd {
        await withTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            var attempt = makeAttempt(of: job, entry)
            var next: Attempt.Input? = .begin
            while let input = next {
                for effect in attempt.receive(completed(input, for: job), at: .now) {
                    if case .end(let end) = effect { return end }
                    await perform(effect, for: job, channel, collected, in: &group)
                }
                next = await channel.next()
            }
            return .stopped
        }
    }

    private func perform(
        _ effect: Attempt.Effect, for job: Job, _ channel: PromptInbox.Channel, _ collected: AsyncStream<OutputCollector.Item>.Continuation,
        in group: inout TaskGroup<Void>
    ) async {
        switch effect {
        case .submit:
            group.addTask {
                let answer = await self.submit(job)
                self.hasSubmitted(job)
                channel.send(.submitted(answer))
            }
        case .inquire(let reason):
            group.addTask { channel.send(self.input(await self.askBooks(about: job, reason, again: min(.seconds(1), self.configuration.silence)), of: job)) }
        case .takeBack: group.addTask { await self.takeBack(job, channel) }
        case .withdraw: group.addTask { await self.withdraw(job, channel) }
        case .reconnect:
            logger.warning("ComfyUI's socket is silent; connecting again", metadata: .of(job.id))
            socket.reconnectNow()
        case .wait(let duration, let input): group.addTask { await self.wait(duration, then: input, channel) }
        case .watchSilence: group.addTask { await self.watchSilence(of: job, channel) }
        case .delivered:
            job.timeline.delivered()
            metrics.delivered(job.timeline.marks)
        case .adopted: job.timeline.delivered()
        case .started: job.started()
        case .publish(let event):
            job.publish(event)
            job.timeline.note(event)
        case .preview(let node, let contentType, let image):
            metrics.received(previewOf: image.readableBytes)
            let preview = job.publish(preview: Array(image.readableBytesView), node: node, contentType: contentType)
            if let preview { previewFiles?.write(preview, job: job.id) }
        case .collect(let output): collected.yield(.node(output))
        case .capture(let node, let contentType, let image): collected.yield(.captured(node: node, contentType: contentType, image: image))
        case .waits(let head): job.timeline.waits(behind: head)
        case .executed(let ending):
            job.timeline.executed()
            // After another end the next job may first have to wait.
            if case .succeeded = ending {
                inbox.isOver(job.id)
                wake()
            }
        case .noteAbsence(let message): job.noteAbsence(message)
        case .noteReturn: job.noteReturn()
        case .turnAwayCallers: job.turnAwayCallers()
        case .fail(let error): await service.end(job, .failed, error: error)
        case .doubt(let reason): logger.warning("ComfyUI seems to be stuck", metadata: .of(job.id, ["reason": "\(reason)"]))
        case .end: break
        }
    }
}

// MARK: Facts

extension Worker {
    private func makeAttempt(of job: Job, _ entry: Entry) -> Attempt {
        let (submission, now) = (job.submission, ContinuousClock.now)
        let runningSince = job.current.startedAt.map { now - .seconds(max(0, Date().timeIntervalSince($0))) }
        let terms = Attempt.Terms(
            promptID: job.id.description,
            entry: entry == .submit ? .submit : .adopt(runningSince: runningSince, isConnected: inbox.isConnected),
            timeLimit: submission.options.timeout ?? configuration.jobTimeout, allowsPartial: submission.options.allowsPartial,
            silence: configuration.silence, endLimit: configuration.endLimit)
        return Attempt(
            terms, execution: Execution(workflow: submission.workflow, outputNodes: submission.outputNodes, told: job.told),
            pulse: Pulse.Limits(start: configuration.startLimit, work: configuration.stall))
    }

    /// That ComfyUI is away is told to all attempts at once. What it means depends on the job.
    private func completed(_ input: Attempt.Input, for job: Job) -> Attempt.Input {
        if case .away = input { .away(absence(for: job)) } else { input }
    }

    /// Nil while ComfyUI is there, or has not been away for long.
    private func absence(for job: Job) -> Attempt.Absence? {
        guard let (since, reason) = inbox.absence, .now - since > configuration.grace else { return nil }
        return Attempt.Absence(
            reason: reason, canRunElsewhere: job.attempts.lost < configuration.retries && hasOther(for: job), failsJob: job.failsWhenUnreachable)
    }

    /// What the attempt is told of the books' answer.
    func input(_ verdict: Reconciliation?, of job: Job) -> Attempt.Input {
        guard let verdict else { return .noVerdict(absence(for: job)) }
        let isBehindOwn = if case .waiting(behind: let promptID?) = verdict { inbox.isOpen(promptID) } else { false }
        return .verdict(
            Attempt.Finding(
                verdict: verdict, silence: inbox.silence(of: job.id), isBehindOwn: isBehindOwn, isRegistrationDoubtful: isRegistrationDoubtful))
    }
}
