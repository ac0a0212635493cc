import ComfyUI
import Jobs
import Logging
import Synchronization
import Wording

/// Whether this ComfyUI can be relied on: its socket's registration, its place in the rotation, and what it may still have.
extension Worker {
    // MARK: Registration

    /// ComfyUI has taken a prompt: a message is due.
    package func accepted(_ ticket: RegistrationProof.Ticket) {
        noteDelivery(.made)
        inbox.withRegistration { $0.accepted(ticket, at: .now) }
        wake()
    }

    /// ComfyUI may not have noticed yet that an earlier connection is dead. Systems give up such connections within half an hour.
    var isRegistrationDoubtful: Bool { socket.lastUnnoticedEnd.map { .now - $0 < .seconds(1800) } ?? false }

    func watchRegistration() async {
        while !Task.isCancelled {
            switch inbox.withRegistration({ $0.watch(at: .now, limit: configuration.registrationLimit) }) {
            case .rest: return
            case .wait(let instant): do { try await Task.sleep(until: instant) } catch { return }
            case .replace:
                logger.warning("ComfyUI does not send to the socket any more; connecting again")
                return socket.reconnectNow()
            }
        }
    }

    // MARK: Absence

    /// Has a ComfyUI that is away tried at once; returns when that has succeeded or failed, or has taken too long.
    package func reach(atMost limit: Duration) async {
        let (ends, continuation) = AsyncStream.makeStream(of: Void.self)
        state.withLock { $0.attempts.append(continuation) }
        socket.connectNow()
        guard !inbox.isConnected else { return finishAttempt() }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { for await _ in ends {} }
            group.addTask { do { try await Task.sleep(for: limit) } catch {} }  // cancelled: the attempt was first
            await group.next()
            group.cancelAll()
        }
    }

    func finishAttempt() {
        let attempts = state.withLock { state in
            defer { state.attempts = [] }
            return state.attempts
        }
        for attempt in attempts { attempt.finish() }
    }

    /// Viewers of the jobs that wait for this ComfyUI are told that it cannot be reached.
    func tellQueueOfAbsence() {
        guard let loss = inbox.loss else { return }
        for job in service.queue.jobs where canRun(job) && !hasOther(for: job) {
            job.noteAbsence("ComfyUI cannot be reached (\(loss)). The job waits for it.")
        }
    }

    func startsAbsenceWatch() -> Bool {
        state.withLock { state in
            defer { state.isAbsenceWatched = true }
            return !state.isAbsenceWatched
        }
    }

    /// While ComfyUI is away, jobs that came meanwhile are told so, and those inside that it has been for long.
    func watchAbsence() async {
        let pause = min(max(configuration.grace, .milliseconds(50)), .milliseconds(500))
        while let (since, _) = inbox.absence {
            if .now - since > configuration.grace { inbox.announce(.away(nil)) }
            tellQueueOfAbsence()
            do { try await socket.eventLoop.sleep(for: pause) } catch { return }
        }
        state.withLock { $0.isAbsenceWatched = false }
        // It may have gone again meanwhile.
        if inbox.absence != nil, startsAbsenceWatch() { await watchAbsence() }
    }

    // MARK: Rotation

    func noteSuccess() {
        let wasFaulty = state.withLock { state in
            defer { state.rotation.succeeded() }
            return state.rotation.fault != nil
        }
        if wasFaulty { logger.notice("ComfyUI works again") }
    }

    /// A job has ended, or did not come to run, without telling whether ComfyUI works.
    func noteEnd() { state.withLock { $0.rotation.ended(at: .now) } }

    func noteDelivery(_ delivery: Rotation.Delivery) { state.withLock { $0.rotation.note(delivery, at: .now) } }

    var isStuck: Bool { state.withLock { $0.rotation.fault?.isStandstill == true } }

    func noteFault(_ fault: Rotation.Fault) {
        state.withLock { $0.rotation.failed(fault, at: .now) }
        logger.error("ComfyUI is given no more jobs until one succeeds on it", metadata: ["reason": "\(fault.words(at: .now))"])
        wake()
    }

    func startsRotationWatch() -> Bool {
        state.withLock { state in
            guard !state.isRotationWatched, state.rotation.nextCheck(at: .now) != nil else { return false }
            state.isRotationWatched = true
            return true
        }
    }

    /// Looks for jobs again when time, or a ComfyUI that has come to itself, allows it.
    func watchRotation() async {
        while true {
            let next = state.withLock { state -> ContinuousClock.Instant? in
                let next = state.rotation.nextCheck(at: .now)
                if next == nil { state.isRotationWatched = false }
                return next
            }
            guard let next else { return wake() }
            do { try await Task.sleep(until: next) } catch { return }
            await readQueueIfStuck()
        }
    }

    func readQueueIfStuck() async {
        guard isStuck else { return }
        do {
            let queue = try await client.queue()
            let isHealed = state.withLock { state in
                state.rotation.saw((Set(queue.running.map(\.promptID)), !queue.pending.isEmpty), at: .now)
                return state.rotation.fault == nil
            }
            if isHealed { logger.notice("ComfyUI works again") }
            wake()
        } catch {
            logger.debug("ComfyUI's queue could not be read", metadata: ["error": "\(NetworkWords.of(error))"])
        }
    }

    // MARK: Jobs that were given up

    /// ComfyUI cannot be reached, and may have the job all the same.
    func giveUp(_ job: Job) { state.withLock { $0.givenUp.append(job) } }

    /// ComfyUI is back: takes the jobs again that were given up and still wait for a ComfyUI. Returns the others, which it must not run.
    func reclaimed() -> [Job] {
        let jobs = state.withLock { state in
            defer { state.givenUp = [] }
            return state.givenUp
        }
        return jobs.filter { job in
            guard service.queue.remove(job) else { return job.status.isTerminal || job.assignment != configuration.endpoint.description }
            job.resumed()
            adopt(job)
            return false
        }
    }

    func removeForGood(_ job: Job) async {
        if !(await removeFromComfyUI(job)) { giveUp(job) }
    }
}
