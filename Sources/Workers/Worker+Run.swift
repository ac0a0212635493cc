import ComfyUI
import FoundationEssentials
package import Jobs
import Logging
import NIOCore
import OrderedCollections
import OrderedJSON
import Wording
import Workflow

/// One job inside this ComfyUI, from the submit to its end.
extension Worker {
    /// How a worker comes by a job.
    package enum Entry: Sendable { case submit, adopt }

    /// Looks at a history entry that cannot be read, after which how the run went counts as not to be known.
    private static let unreadableLimit = 3

    package func run(_ job: Job, _ channel: PromptInbox.Channel, _ entry: Entry) async {
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
        // Without a bound: what waits here are this run's own results, for the disk or for ComfyUI to tell their size.
        let (items, collected) = AsyncStream.makeStream(of: OutputCollector.Item.self)
        async let collection = collect(items, of: job)
        if !isWanted { channel.send(.cancel) }
        let fault = entry == .submit ? await check(job) : nil
        if fault != nil { hasSubmitted(job) }
        let end = if let fault { RunEnd.refused(fault) } else { await follow(job, channel, entry, collecting: collected) }
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

    /// Submits the job and follows it until nothing more will happen to it. Whatever takes time is a child task that
    /// reports back through the channel, so that messages are handled as they come.
    private func follow(
        _ job: Job, _ channel: PromptInbox.Channel, _ entry: Entry, collecting collected: AsyncStream<OutputCollector.Item>.Continuation
    ) async -> RunEnd {
        enum Delivery { case underWay, unknown, done }
        enum Look { case none, underWay, underWayAndStale }
        return await withTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            let submission = job.submission
            var run = Run(workflow: submission.workflow, outputNodes: submission.outputNodes, told: job.told)
            var pulse = Pulse(limits: .init(start: configuration.startLimit, work: configuration.stall))
            var delivery = entry == .submit ? Delivery.underWay : .done
            /// A short run can be over before ComfyUI has answered the submit, and the answer may still say that outputs were left out.
            var ending: Run.Ending?
            var isTakenBack = false
            var isTakingBack = false
            /// Why ComfyUI may be stuck; it has been asked to give the prompt up, to be sure.
            var doubt: (fault: Rotation.Fault, isOwn: Bool, since: ContinuousClock.Instant)?
            var gaveWay: ContinuousClock.Instant?
            var look = Look.none
            var lookBegan = ContinuousClock.now
            var isAskedForSilence = false
            var unreadableLooks = 0

            /// Asks ComfyUI, as soon as it has the prompt and does not answer already.
            func reconcile(_ reason: Metrics.ReconciliationReason) {
                guard delivery != .underWay, look == .none else {
                    look = .underWayAndStale
                    return
                }
                look = .underWay
                lookBegan = .now
                group.addTask { channel.send(await self.reconcile(job, reason, secondLookAfter: min(.seconds(1), self.configuration.silence))) }
            }
            /// ComfyUI has been asked; again, if something happened meanwhile that the answer may not know of.
            func looked() {
                let wasStale = look == .underWayAndStale
                look = .none
                if wasStale { reconcile(.again) }
            }
            /// ComfyUI did not answer the submit, and does not have the prompt. It had it all the same when it sent messages of it.
            func notFound(_ reason: String) -> RunEnd {
                run.lossWhenAbsent == .waiting ? .notDelivered(reason: reason) : .lost(run.lossWhenAbsent)
            }
            func takeBack() {
                isTakenBack = true
                guard delivery != .underWay, !isTakingBack else { return }
                isTakingBack = true
                group.addTask { await self.takeBack(job, channel) }
            }
            /// `isOwn`: it is this prompt in which ComfyUI hangs, or none.
            func suspect(_ fault: Rotation.Fault, isOwn: Bool) {
                guard doubt == nil else { return }
                doubt = (fault, isOwn, .now)
                logger.warning("ComfyUI seems to be stuck", metadata: .of(job.id, ["reason": "\(fault.cause(at: .now))"]))
                giveWay()
            }
            /// Behind a prompt of somebody else nothing is interrupted: this one only leaves the queue.
            func giveWay() {
                guard case .behind? = doubt?.fault else { return takeBack() }
                let isRecent = gaveWay.map { .now - $0 < min(.seconds(2), configuration.silence) } ?? false
                guard delivery != .underWay, !isTakingBack, !isRecent else { return }
                gaveWay = .now
                group.addTask { await self.withdraw(job, channel) }
            }
            /// ComfyUI is away, and has been for as long as callers wait. The job ends, or runs elsewhere; else it waits for ComfyUI's return.
            func isGivenUp() async -> Bool {
                guard let (since, reason) = inbox.absence, .now - since > configuration.grace else { return false }
                if isTakenBack || job.status == .canceling || job.status.isTerminal { return true }
                if hasOther(for: job), job.attempts.lost < configuration.retries { return true }
                guard job.failsWhenUnreachable else {
                    job.turnAwayCallers()
                    return false
                }
                await service.end(job, .failed, error: .unreachable(reason: reason))
                return true
            }

            switch entry {
            case .submit:
                group.addTask {
                    let result = await self.submit(job)
                    self.hasSubmitted(job)
                    channel.send(.submitted(result))
                }
            case .adopt:
                job.timeline.delivered()
                run.lostTouch()
                if inbox.isConnected { reconcile(.adoption) }
            }
            group.addTask { await self.watchSilence(of: job, channel) }

            while let input = await channel.next() {
                var actions: [Run.Action] = []
                switch input {
                case .message(let message): actions = run.received(message)
                case .binary(let message): actions = run.received(message)
                case .submitted(.refused(let error)): return .refused(error)
                case .submitted(.notDelivered(let reason)): return ending.map(RunEnd.ended) ?? notFound(reason)
                case .submitted(.notReached): return ending.map(RunEnd.ended) ?? .notReached
                case .submitted(.found):
                    delivery = .done
                    look = .none
                    noteDelivery(of: job)
                    run.lostTouch()
                    // What it was given up for goes on.
                    job.resumed()
                    run.resume(job.told)
                    if isTakenBack { takeBack() } else { reconcile(.submit) }
                    if doubt != nil { giveWay() }
                case .submitted(.unknown):
                    delivery = .unknown
                    looked()
                    if isTakenBack { takeBack() }
                    if doubt != nil { giveWay() }
                case .submitted(.accepted(let faults)):
                    delivery = .done
                    noteDelivery(of: job)
                    looked()
                    if !faults.isEmpty, !submission.options.allowsPartial {
                        await service.end(job, .failed, error: .partiallyInvalid(faults))
                        isTakenBack = true
                    } else {
                        for fault in faults { job.publish(.log(LogEntry(.warning, "This output does not run: \(fault.message)", node: fault.node))) }
                    }
                    if isTakenBack { takeBack() }
                    if doubt != nil { giveWay() }
                case .lostTouch:
                    run.lostTouch()
                    pulse.lostTouch()
                    if let loss = inbox.loss {
                        job.noteAbsence("ComfyUI cannot be reached any more (\(loss)). It may go on with the job, and is asked about it when it is back.")
                    }
                    // The run may be over already: that must not wait for the socket to be back.
                    reconcile(.reconnect)
                case .reconnected:
                    job.noteReturn()
                    reconcile(.reconnect)
                case .away:
                    // Its HTTP may be there without its socket. One that does not answer at all is not waited for.
                    guard delivery == .underWay || (look != .none && .now - lookBegan > .seconds(2)) else {
                        if look == .none { reconcile(.reconnect) }
                        break
                    }
                    if await isGivenUp() { return .lost(.unreachable) }
                case .endDue(let pause):
                    // The last message did not come: it was lost, or the prompt is not over yet.
                    reconcile(.gap)
                    if run.isEndDue {
                        let next = min(pause * 2, configuration.silence)
                        group.addTask { await self.wait(next, then: .endDue(after: next), channel) }
                    }
                case .silent:
                    isAskedForSilence = true
                    reconcile(.silence)
                case .overtaken: if run.isRunning { reconcile(.gap) }
                case .stuck(let fault): suspect(fault, isOwn: false)
                case .noVerdict:
                    looked()
                    if await isGivenUp() { return .lost(.unreachable) }
                case .verdict(.unreadable):
                    looked()
                    delivery = .done
                    if isTakenBack { return doubt == nil ? .takenBack : .lost(.stalled) }
                    unreadableLooks += 1
                    guard unreadableLooks >= Self.unreadableLimit else { break }
                    actions = run.reconciled(.absent)
                    if actions.isEmpty { return .lost(.running) }
                case .verdict(.absent):
                    switch doubt?.fault {
                    case .behind(let promptID, let since)?: return .behind(promptID: promptID, since: since)
                    case let fault?: return doubt?.isOwn == true && run.isRunning ? .lost(.stalled) : .stuck(reason: fault.cause(at: .now), wasRunning: false)
                    case nil: break
                    }
                    if isTakenBack { return .takenBack }
                    actions = run.reconciled(.absent)
                    guard actions.isEmpty else { break }
                    if delivery == .unknown { return notFound("ComfyUI did not answer and does not have the workflow") }
                    return .lost(entry == .adopt && job.status == .running && run.lossWhenAbsent == .waiting ? .running : run.lossWhenAbsent)
                case .verdict(let verdict):
                    looked()
                    delivery = .done
                    // The reconnect trap (protocol section 9): the socket is open, but ComfyUI does not send to it any more. That it says nothing
                    // of a running prompt is normal, but not to be trusted while it may still hold an older connection for alive.
                    if isAskedForSilence, run.hasMissed(verdict) || (verdict.isRunning && isRegistrationDoubtful) {
                        logger.warning("ComfyUI's socket is silent; connecting again", metadata: .of(job.id))
                        socket.reconnectNow()
                    }
                    isAskedForSilence = false
                    actions = run.reconciled(verdict)
                    // What it waited behind has gone.
                    if case .behind? = doubt?.fault, verdict.isRunning { doubt = nil }
                    if let doubt {
                        switch (doubt.fault, verdict) {
                        case (.behind, _): giveWay()
                        case (let fault, .running) where .now - doubt.since >= configuration.silence * 2:
                            return .stuck(reason: fault.cause(at: .now), wasRunning: true)
                        default: break
                        }
                    } else {
                        let silence = inbox.silence(of: job.id)
                        let seen = pulse.judge(verdict, silence: silence, mayHaveBegun: run.mayHaveBegun, isOwn: inbox.isOpen, at: .now)
                        job.timeline.waits(behind: pulse.head)
                        if let seen { suspect(seen.fault(of: job.id.description), isOwn: true) }
                    }
                case .deadline:
                    await service.end(job, .failed, error: .timedOut(after: timeout(of: job, .submit)))
                    takeBack()
                case .cancel: takeBack()
                }
                for action in actions {
                    switch action {
                    case .started:
                        job.started()
                        if let timeout = timeout(of: job, entry) { group.addTask { await self.wait(timeout, then: .deadline, channel) } }
                    case .publish(let event):
                        job.publish(event)
                        job.timeline.note(event)
                    case .preview(let node, let contentType, let image):
                        metrics.received(previewOf: image.readableBytes)
                        let preview = job.publish(preview: Array(image.readableBytesView), node: node, contentType: contentType)
                        if let preview { previewFiles?.write(preview, job: job.id) }
                    case .collect(let output): collected.yield(.node(output))
                    case .capture(let node, let contentType, let image):
                        collected.yield(.captured(node: node, contentType: contentType, image: image))
                    case .reconcile: reconcile(.gap)
                    case .awaitEnd:
                        let pause = configuration.endLimit
                        group.addTask { await self.wait(pause, then: .endDue(after: pause), channel) }
                    case .end(let how):
                        ending = how
                        job.timeline.executed()
                        // After another end the next job may first have to wait.
                        guard case .succeeded = how else { break }
                        inbox.isOver(job.id)
                        self.look()
                    }
                }
                if let ending, delivery != .underWay {
                    switch ending {
                    case .succeeded where run.lacksResults: return .lost(.results)
                    case .interrupted where doubt != nil && isTakenBack: return .lost(.stalled)
                    case .succeeded, .failed, .interrupted: return .ended(ending)
                    }
                }
            }
            return .stopped
        }
    }

    /// How long the job may run on. An adopted one may have begun before the bridge did.
    private func timeout(of job: Job, _ entry: Entry) -> Duration? {
        guard let timeout = job.submission.options.timeout ?? configuration.jobTimeout else { return nil }
        guard entry == .adopt, let start = job.snapshot.startedAt else { return timeout }
        return max(.zero, timeout - .seconds(max(0, Date().timeIntervalSince(start))))
    }

    // MARK: The end

    /// Draws the conclusions for ComfyUI and for the job.
    private func settle(_ job: Job, _ end: RunEnd, _ collected: OutputCollector) async {
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
        logger.warning("a run did not come to its end", metadata: .of(job.id, ["end": "\(end.words)"]))
        await prepareNextRun(of: job, after: end)
        // It may have been canceled meanwhile.
        guard case .again = conclude() else { return await finish(job, conclude()) }
        if let note { job.publish(.log(LogEntry(.warning, note))) }
        metrics.returned.add()
        job.timeline.returned(because: end.returnReason ?? note ?? "A run did not come to its end.")
        await service.putBack(job)
    }

    /// ComfyUI has taken the job.
    private func noteDelivery(of job: Job) {
        job.timeline.delivered()
        metrics.delivered(job.timeline.marks)
    }

    private func finish(_ job: Job, _ conclusion: Conclusion) async {
        guard case .end(let status, let error) = conclusion else { return }
        await service.end(job, status, error: error)
    }

    /// What the end of a run says about ComfyUI.
    private func noteHealth(_ end: RunEnd, of job: Job) {
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

    /// The run that is the first to say so tells the others.
    private func noteStandstill(_ fault: Rotation.Fault, of job: Job) {
        guard !isStuck else { return }
        noteFault(fault)
        inbox.announce(.stuck(fault), except: job.id)
    }

    private func prepareNextRun(of job: Job, after end: RunEnd) async {
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
