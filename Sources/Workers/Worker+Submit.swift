import ComfyUI
package import Jobs
import Logging
import OrderedCollections
import OrderedJSON
import Wording
import Workflow

/// What an attempt asks of ComfyUI over HTTP: to take its prompt, how it stands with it, to give it back.
extension Worker {
    /// A job that was accepted while no node list was known is checked now, as at the submission. Nil: ComfyUI may have it; also when its list
    /// cannot be read, since it checks itself, all but where files are: then no text of the workflow may lead out of a folder.
    package func check(_ job: Job) async -> JobError? {
        let workflow = job.submission.workflow
        guard job.submission.outputNodes.isEmpty else { return nil }
        if catalog == nil { _ = await hasReadNodeList(isFirst: false) }
        for name in (catalog?.unknownClasses(in: workflow) ?? []).prefix(20) { await readClass(name) }
        guard let catalog else {
            let faults = NodeCatalog(objectInfo: [:], replaced: workflow.classTypes, fileRules: configuration.fileRules).faults(in: workflow)
            return faults.isEmpty ? nil : .invalid(faults)
        }
        let faults = catalog.faults(in: workflow)
        guard faults.isEmpty else { return .invalid(faults) }
        do {
            job.complete(outputNodes: catalog.outputNodes(of: workflow), inputs: try await service.assets.namedUploads(in: workflow, catalog))
        } catch {
            logger.error("the files that a job names could not be looked up", metadata: .of(job.id, ["error": "\(NetworkWords.of(error))"]))
        }
        return nil
    }

    func submit(_ job: Job) async -> Attempt.Answer {
        let submission = job.submission
        if job.attempts != Attempts(), let found = await askBeforeSubmitting(job) { return found }
        guard !submission.lacksCredentials else { return .refused(.credentialsLost) }
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
        let ticket = inbox.withRegistration { $0.ticket }
        do {
            let receipt = try await client.submit(prompt)
            accepted(ticket)
            return .accepted(partialFaults: WorkflowFaults(receipt.nodeErrors))
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
                return .notReached
            case .connectionLost, .timedOut:
                return await whereabouts(of: job, ifAbsent: .notDelivered(reason: "\(error)"))
            case .cancelled:
                return .unknown
            }
        }
    }

    /// A job that was inside a ComfyUI before may still be in this one: it must not run there twice. A result after which the job is to run again
    /// is forgotten, so that it is not taken for the next one's. Nil: ComfyUI does not have it.
    private func askBeforeSubmitting(_ job: Job) async -> Attempt.Answer? {
        do {
            switch try await books(about: job) {
            case .waiting, .running, .finished(_, .succeeded): return found(job)
            case .finished(_, .failed(let error)) where error.code == .nodeExecutionError: return found(job)
            case .finished, .unreadable: try await client.deleteHistory([job.id.description])
            case .absent: break
            }
            return nil
        } catch {
            if case .unreachable = error { return .notReached }
            return .notDelivered(reason: "\(error)")
        }
    }

    /// What the job was given up for goes on.
    private func found(_ job: Job) -> Attempt.Answer {
        job.resumed()
        return .found(job.told)
    }

    /// After a submit without a clear answer: it may be queued all the same (protocol section 13).
    private func whereabouts(of job: Job, ifAbsent: Attempt.Answer) async -> Attempt.Answer {
        // The first question may go over a connection that broke together with the submit.
        for pause in [Duration.zero, .milliseconds(100), .seconds(1)] {
            do { try await Task.sleep(for: pause) } catch { break }
            guard let verdict = await askBooks(about: job, .submit, again: min(.milliseconds(200), configuration.silence)) else { continue }
            if case .absent = verdict { return ifAbsent }
            return .accepted(partialFaults: [])
        }
        return .unknown
    }

    /// Asks ComfyUI's books. Nil: they could not be read.
    ///
    /// - Parameter pause: that they do not have the prompt is believed the second time, since what was sent may still be on its way. Nil: the first.
    func askBooks(about job: Job, _ reason: Metrics.ReconciliationReason, again pause: Duration?) async -> Reconciliation? {
        metrics.reconciliations[reason].add()
        do {
            var verdict = try await books(about: job)
            if case .absent = verdict, let pause {
                try await Task.sleep(for: pause)
                verdict = try await books(about: job)
            }
            try await waitForMessagesUnderWay()
            return verdict
        } catch {
            logger.debug("ComfyUI could not be asked about a job", metadata: .of(job.id, ["error": "\(NetworkWords.of(error))"]))
            return nil
        }
    }

    /// The books know more than was heard so far while messages are still arriving: those go first, else what they carry is lost.
    private func waitForMessagesUnderWay() async throws {
        while let last = inbox.lastPart, case let rest = configuration.endLimit - (.now - last), rest > .zero {
            try await socket.eventLoop.sleep(for: rest)
        }
    }

    /// The queue first: the other way round a prompt that ends in between looks lost.
    private func books(about job: Job) async throws(ComfyUIError) -> Reconciliation {
        let queue = try await client.queue()
        do {
            return Reconciliation(of: job.id.description, queue: queue, history: try await client.history(job.id.description))
        } catch {
            // It may also be a proxy's page: to be believed when it stays so.
            guard case .badAnswer(200, _) = error, case .absent = Reconciliation(of: job.id.description, queue: queue, history: nil) else { throw error }
            return .unreadable
        }
    }

    /// Takes the prompt out of ComfyUI: out of its queue, out of execution, then asks; again until it is gone, since an
    /// interrupt can be lost when the prompt is just starting (protocol section 11).
    func takeBack(_ job: Job, _ channel: PromptInbox.Channel) async {
        repeat {
            await removeFromComfyUI(job)
            channel.send(input(await askBooks(about: job, .cancel, again: nil), of: job))
            await wait(min(.seconds(2), configuration.silence), then: nil, channel)
        } while !Task.isCancelled
    }

    /// Takes a prompt that waits out of ComfyUI's queue, and nothing else, then asks.
    func withdraw(_ job: Job, _ channel: PromptInbox.Channel) async {
        do { try await client.deleteQueued([job.id.description]) } catch {
            logger.debug("a job could not be taken out of ComfyUI's queue", metadata: .of(job.id, ["error": "\(NetworkWords.of(error))"]))
        }
        channel.send(input(await askBooks(about: job, .cancel, again: nil), of: job))
    }

    /// False when ComfyUI could not be asked to.
    @discardableResult
    func removeFromComfyUI(_ job: Job) async -> Bool {
        do {
            // In one step where ComfyUI can, so that the interrupt does not hit the prompt after this one. Neither way tells that it has stopped.
            if try await client.cancel(promptID: job.id.description) == nil {
                try await client.deleteQueued([job.id.description])
                try await client.interrupt(promptID: job.id.description)
            }
            return true
        } catch {
            logger.debug("a job could not be taken back", metadata: .of(job.id, ["error": "\(NetworkWords.of(error))"]))
            return false
        }
    }

    func watchSilence(of job: Job, _ channel: PromptInbox.Channel) async {
        while !Task.isCancelled {
            let silence = inbox.silence(of: job.id)
            let isSilent = silence >= configuration.silence
            if isSilent { channel.send(.silent) }
            await wait(isSilent ? configuration.silence : configuration.silence - silence, then: nil, channel)
        }
    }

    /// Sleeps, then sends the input; sends nothing when the attempt is over before.
    func wait(_ duration: Duration, then input: Attempt.Input?, _ channel: PromptInbox.Channel) async {
        do { try await socket.eventLoop.sleep(for: duration) } catch { return }
        if let input { channel.send(input) }
    }
}
