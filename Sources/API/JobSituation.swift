import ComfyUI
import FoundationEssentials
import Jobs
import Wording
import Workers

/// Everything that decides how a job stands, at one moment and as a value. Times are how long it has been so.
struct JobSituation: Sendable {
    /// A job inside a ComfyUI.
    struct Run: Sendable {
        var job: JobID
        var status = JobStatus.queued
        /// Nil: ComfyUI has not begun to run it.
        var running: Duration?
        var node: Node?
        /// Since the last message about it.
        var silence = Duration.zero
    }

    struct Node: Sendable {
        var id: String
        var classType: String?
        var title: String?
        var running: Duration
        var step: Int?
        var steps: Int?
    }

    struct ComfyUI: Sendable {
        var url: String
        /// Nil: it can be given jobs.
        var away: Absence?
        /// False: it lacks node classes of the job.
        var canRun = true
        var runs: [Run] = []
    }

    struct Absence: Sendable {
        /// Nil where that is not known.
        var time: Duration?
        var reason: String
        /// False: it is there, and rests after a fault that would hit the next job too.
        var isDisconnected = true
    }

    var job: JobID
    var status = JobStatus.queued
    var error: JobError?
    var outputs = 0
    /// Since the submission.
    var age = Duration.zero
    var execution: Duration?
    /// In the bridge's queue; nil when it is not there.
    var queuePosition: Int?
    /// The place in `comfyUIs` of the one that has the job, or is being given it.
    var owner: Int?
    /// Since a worker has it.
    var taken: Duration?
    var isDelivered = false
    /// The prompt of somebody else that runs before it in its ComfyUI, and for how long it was seen there.
    var behind: (promptID: String, time: Duration)?
    /// Since ComfyUI's last word on it.
    var executed: Duration?
    var comfyUIs: [ComfyUI] = []
    /// From which silence on ComfyUI is asked.
    var silenceLimit = Duration.seconds(10)
    /// How often it went back into the queue, and why the last time.
    var returns = 0
    var returnReason: String?
}

extension API {
    func situation(of job: Job) async throws -> JobSituation {
        let (snapshot, marks, now) = (job.snapshot, job.timeline.marks, ContinuousClock.now)
        var situation = JobSituation(job: job.id)
        situation.status = snapshot.status
        situation.error = snapshot.error
        situation.outputs = snapshot.outputs.count
        situation.age = now - marks.submitted
        situation.execution = snapshot.executionTime
        situation.queuePosition = snapshot.queuePosition
        situation.taken = marks.taken.map { now - $0 }
        situation.isDelivered = marks.delivered != nil
        situation.behind = marks.behind.map { ($0.promptID, now - $0.since) }
        situation.executed = marks.executed.map { now - $0 }
        (situation.returns, situation.returnReason) = (marks.returns, marks.returnReason)
        guard !snapshot.status.isTerminal else { return situation }
        for (index, worker) in pool.workers.enumerated() {
            let status = worker.status
            var comfyUI = JobSituation.ComfyUI(url: status.url)
            if !status.isConnected || !status.takesJobs {
                comfyUI.away = JobSituation.Absence(
                    time: status.unavailableFor, reason: status.reason ?? "it rests after a fault", isDisconnected: !status.isConnected)
            }
            comfyUI.canRun = worker.canRun(job)
            for prompt in status.open {
                if prompt.job == job.id { (situation.owner, situation.silenceLimit) = (index, status.silenceLimit) }
                guard let other = try await service.job(prompt.job) else { continue }
                comfyUI.runs.append(other.run(silence: prompt.silence, at: now))
            }
            situation.comfyUIs.append(comfyUI)
        }
        return situation
    }
}

extension Job {
    fileprivate func run(silence: Duration, at now: ContinuousClock.Instant) -> JobSituation.Run {
        let (snapshot, marks) = (snapshot, timeline.marks)
        var run = JobSituation.Run(job: id, status: snapshot.status, running: marks.begun.map { now - $0 }, silence: silence)
        // One that was adopted began before this process did.
        if marks.started == nil, let start = snapshot.startedAt { run.running = .seconds(max(0, Date().timeIntervalSince(start))) }
        if let node = marks.node, let began = marks.nodeBegan {
            run.node = JobSituation.Node(id: node.displayNode, classType: node.classType, title: node.title, running: now - began)
            if let progress = snapshot.progress, progress.currentNode == node.displayNode {
                run.node?.step = progress.step
                run.node?.steps = progress.steps
            }
        }
        return run
    }
}
