import NIOCore
import ComfyUI
import Logging
import OrderedCollections
import OrderedJSON

/// One job inside this ComfyUI, from the submit to its end.
extension Worker {
    /// How following a run came to its end.
    private enum RunEnd {
        case ended(Run.Ending)
        /// ComfyUI does not want it.
        case refused(JobError)
        /// It was taken back before it ran.
        case takenBack
        /// ComfyUI never had it.
        case notDelivered(reason: String)
        /// ComfyUI had it, and neither runs it nor knows how it ended.
        case lost
        /// The bridge stops.
        case stopped
    }

    /// How often a job may fail to be handed over before it is given up.
    private static let deliveryLimit = 5

    func run(_ job: Job, _ channel: PromptInbox.Channel) async {
        defer { inbox.close(job.id) }
        guard job.taken(cancelHandler: { channel.send(.cancel) }) else {
            hasSubmitted(job)
            await service.end(job, .canceled, error: .canceledByCaller)
            return
        }
        // Without a bound: what waits here are this run's own results, for the disk or for ComfyUI to tell their size.
        let (items, collected) = AsyncStream.makeStream(of: OutputCollector.Item.self)
        async let collection = collect(items, of: job)
        let end = await follow(job, channel, collecting: collected)
        collected.finish()
        await settle(job, end, await collection)
    }

    private func collect(_ items: AsyncStream<OutputCollector.Item>, of job: Job) async -> OutputCollector {
        var collector = OutputCollector(job: job, client: client, assets: service.assets, previewFiles: previewFiles, logger: logger)
        for await item in items { await collector.collect(item) }
        return collector
    }

    /// Submits the job and follows it until nothing more will happen to it. Whatever takes time is a child task that
    /// reports back through the channel, so that messages are handled as they come.
    private func follow(_ job: Job, _ channel: PromptInbox.Channel, collecting collected: AsyncStream<OutputCollector.Item>.Continuation) async -> RunEnd {
        enum Delivery { case underWay, unknown, done }
        enum Look { case none, underWay, underWayAndStale }
        return await withTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            let submission = job.submission
            var run = Run(workflow: submission.workflow, outputNodes: submission.outputNodes, marksPreviews: inbox.marksPreviews)
            var delivery = Delivery.underWay
            /// A short run can be over before ComfyUI has answered the submit, and the answer may still say that outputs were left out.
            var ending: Run.Ending?
            var isTakenBack = false
            var isTakingBack = false
            var look = Look.none
            var isAskedForSilence = false

            func reconcile() {
                guard delivery != .underWay else { return }
                guard look == .none else {
                    look = .underWayAndStale
                    return
                }
                look = .underWay
                group.addTask { channel.send(await self.reconcile(job)) }
            }
            /// ComfyUI has been asked; again, if something happened meanwhile that the answer may not know of.
            func looked() {
                let wasStale = look == .underWayAndStale
                look = .none
                if wasStale { reconcile() }
            }
            func takeBack() {
                isTakenBack = true
                guard delivery != .underWay, !isTakingBack else { return }
                isTakingBack = true
                group.addTask { await self.takeBack(job, channel) }
            }

            group.addTask {
                let result = await self.submit(job)
                self.hasSubmitted(job)
                channel.send(.submitted(result))
            }
            group.addTask { await self.watchSilence(of: job, channel) }

            for await input in channel.inputs {
                var actions: [Run.Action] = []
                switch input {
                case .message(let message): actions = run.received(message)
                case .binary(let message): actions = run.received(message)
                case .submitted(.refused(let error)): return .refused(error)
                case .submitted(.notDelivered(let reason)): return ending.map(RunEnd.ended) ?? .notDelivered(reason: reason)
                case .submitted(.unknown):
                    delivery = .unknown
                    if isTakenBack { takeBack() }
                case .submitted(.accepted(let faults)):
                    delivery = .done
                    if !faults.isEmpty, !submission.options.allowsPartial {
                        await service.end(job, .failed, error: .partiallyInvalid(faults))
                        isTakenBack = true
                    } else {
                        for fault in faults { job.publish(.log(LogEntry(.warning, "This output does not run: \(fault.message)", node: fault.node))) }
                    }
                    if isTakenBack { takeBack() }
                case .lostTouch: run.lostTouch()
                case .reconnected: reconcile()
                case .silent:
                    isAskedForSilence = true
                    reconcile()
                case .noVerdict:
                    looked()
                    if case .disconnected(let since, _) = inbox.connection, .now - since > configuration.patience { return .lost }
                case .verdict(.absent):
                    if isTakenBack { return .takenBack }
                    return delivery == .unknown ? .notDelivered(reason: "ComfyUI did not answer and does not have the workflow") : .lost
                case .verdict(let verdict):
                    looked()
                    delivery = .done
                    if isAskedForSilence, run.hasMissed(verdict) {
                        // The reconnect trap (protocol section 9): the socket is open, but ComfyUI does not send to it any more.
                        logger.warning("ComfyUI's socket is silent; connecting again", metadata: ["job.id": "\(job.id)"])
                        socket.reconnectNow()
                    }
                    isAskedForSilence = false
                    actions = run.reconciled(verdict)
                case .deadline:
                    await service.end(job, .failed, error: .timedOut(after: timeout(of: job)))
                    takeBack()
                case .cancel: takeBack()
                }
                for action in actions {
                    switch action {
                    case .started:
                        job.started()
                        if let timeout = timeout(of: job) { group.addTask { await self.wait(timeout, then: .deadline, channel) } }
                    case .publish(let event): job.publish(event)
                    case .preview(let node, let contentType, let image):
                        let preview = job.publish(preview: Array(image.readableBytesView), node: node, contentType: contentType)
                        if previewFiles != nil, let preview { collected.yield(.preview(preview)) }
                    case .collect(let output): collected.yield(.node(output))
                    case .capture(let node, let contentType, let image):
                        collected.yield(.captured(node: node, contentType: contentType, image: image))
                    case .reconcile: reconcile()
                    case .end(let how): ending = how
                    }
                }
                if let ending, delivery != .underWay { return .ended(ending) }
            }
            return .stopped
        }
    }

    /// Draws the conclusion for the job.
    private func settle(_ job: Job, _ end: RunEnd, _ collected: OutputCollector) async {
        let isCanceling = job.status == .canceling
        switch end {
        case .takenBack,
            .ended(.succeeded) where isCanceling,
            .ended(.failed) where isCanceling:
            await service.end(job, .canceled, error: .canceledByCaller)
        case .ended(.succeeded):
            if let failure = collected.failure {
                await service.end(job, .failed, error: failure)
            } else {
                await service.end(job, .succeeded)
            }
        case .ended(.failed(let error)), .refused(let error):
            await service.end(job, .failed, error: error)
        case .ended(.interrupted):
            await service.end(job, .canceled, error: isCanceling ? .canceledByCaller : .interruptedInComfyUI)
        case .notDelivered(let reason):
            logger.warning("a job could not be handed to ComfyUI", metadata: ["job.id": "\(job.id)", "reason": "\(reason)"])
            await again(job, mayRunAgain: job.countFailedDelivery() < Self.deliveryLimit, error: .unreachable(reason: reason))
        case .lost:
            logger.warning("ComfyUI lost a job", metadata: ["job.id": "\(job.id)"])
            do { try await service.assets.remove(outputsOf: job) } catch {
                logger.error("outputs of a lost run could not be removed", metadata: ["job.id": "\(job.id)", "error": "\(error)"])
            }
            let mayRunAgain = job.countLostRun() <= configuration.retries
            if mayRunAgain { job.publish(.log(LogEntry(.warning, "ComfyUI lost the job (restarted?); it is run again."))) }
            await again(job, mayRunAgain: mayRunAgain, error: .lost)
        case .stopped where isCanceling || job.status.isTerminal:
            // It was being taken back; nobody else will. Not to be cut short by the stop itself.
            await Task { await self.removeFromComfyUI(job) }.value
        case .stopped:
            break
        }
    }

    private func again(_ job: Job, mayRunAgain: Bool, error: JobError) async {
        switch job.status {
        case .canceling: await service.end(job, .canceled, error: .canceledByCaller)
        case .queued where mayRunAgain,
            .running where mayRunAgain:
            service.queue.putBack(job)
        default: await service.end(job, .failed, error: error)
        }
    }

    // MARK: Child tasks of a run

    private func submit(_ job: Job) async -> PromptInbox.SubmitResult {
        let submission = job.submission
        var extraData = submission.extraData
        extraData["preview_method"] = .string(configuration.previewMethod)
        // Files may take long to get there: jobs that are ready overtake this one.
        if !submission.inputs.isEmpty { hasSubmitted(job) }
        let graph: [UInt8]
        do { graph = try await inputFiles.graph(of: submission) } catch {
            if case .unreachable(let reason) = error { return .notDelivered(reason: reason) }
            return .refused(JobError(error))
        }
        let prompt = PromptSubmission(promptID: job.id.description, clientID: clientID, encodedGraph: graph, extraData: extraData)
        do {
            let receipt = try await client.submit(prompt)
            return .accepted(partialFaults: receipt.nodeErrors.flatMap { WorkflowFault.faults(of: $0, $1) })
        } catch {
            switch error {
            case .rejected(let rejection): return .refused(JobError(rejection))
            case .tooLarge: return .refused(.tooLarge)
            case .badAnswer(let status, let start):
                return await whereabouts(of: job, ifAbsent: .refused(.badAnswer(status: status, start: start)))
            case .notFound:
                return .refused(.badAnswer(status: 404, start: ""))
            case .answerTooLarge:
                return await whereabouts(of: job, ifAbsent: .refused(.badAnswer(status: 200, start: "\(error)")))
            case .unreachable:
                return .notDelivered(reason: "\(error)")
            case .connectionLost, .timedOut:
                return await whereabouts(of: job, ifAbsent: .notDelivered(reason: "\(error)"))
            case .cancelled:
                return .unknown
            }
        }
    }

    /// After a submit without a clear answer: it may be queued all the same (protocol section 13).
    private func whereabouts(of job: Job, ifAbsent: PromptInbox.SubmitResult) async -> PromptInbox.SubmitResult {
        // The first look may go over a connection that broke together with the submit.
        for pause in [Duration.zero, .milliseconds(100), .seconds(1)] {
            do { try await Task.sleep(for: pause) } catch { break }
            switch await reconcile(job) {
            case .verdict(.absent): return ifAbsent
            case .verdict: return .accepted(partialFaults: [])
            default: continue
            }
        }
        return .unknown
    }

    /// Asks ComfyUI's books. The queue first: the other way round a prompt that ends in between looks lost.
    private func reconcile(_ job: Job) async -> PromptInbox.Input {
        do {
            let queue = try await client.queue()
            let history = try await client.history(job.id.description)
            return .verdict(Reconciliation(of: job.id.description, queue: queue, history: history))
        } catch {
            logger.debug("ComfyUI could not be asked about a job", metadata: ["job.id": "\(job.id)", "error": "\(error)"])
            return .noVerdict
        }
    }

    /// Takes the prompt out of ComfyUI: out of its queue, out of execution, then looks; again until it is gone, since an
    /// interrupt can be lost when the prompt is just starting (protocol section 11).
    private func takeBack(_ job: Job, _ channel: PromptInbox.Channel) async {
        repeat {
            await removeFromComfyUI(job)
            channel.send(await reconcile(job))
            await wait(.seconds(2), then: nil, channel)
        } while !Task.isCancelled
    }

    private func removeFromComfyUI(_ job: Job) async {
        do {
            try await client.deleteQueued([job.id.description])
            try await client.interrupt(promptID: job.id.description)
        } catch {
            logger.debug("a job could not be taken back", metadata: ["job.id": "\(job.id)", "error": "\(error)"])
        }
    }

    private func watchSilence(of job: Job, _ channel: PromptInbox.Channel) async {
        while !Task.isCancelled {
            await wait(configuration.silence, then: nil, channel)
            if inbox.silence(of: job.id) >= configuration.silence { channel.send(.silent) }
        }
    }

    /// Sleeps, then sends the input; sends nothing when the run is over before.
    private func wait(_ duration: Duration, then input: PromptInbox.Input?, _ channel: PromptInbox.Channel) async {
        do { try await Task.sleep(for: duration) } catch { return }
        if let input { channel.send(input) }
    }

    private func timeout(of job: Job) -> Duration? { job.submission.options.timeout ?? configuration.jobTimeout }
}
