import Jobs
import OrderedCollections
import OrderedJSON
import Wording
import Workers

/// What a job is waiting for, or how it ended: for programs (`reason`), for people (`message`), and the figures behind it.
struct Why: Sendable, Equatable {
    enum Reason: String, CaseIterable, Sendable {
        /// Others are before it.
        case queued
        case comfyUIUnreachable = "comfyui_unreachable"
        case handingOver = "handing_over"
        /// It is inside ComfyUI, which runs something else.
        case comfyUIBusy = "comfyui_busy"
        case running
        case silent
        /// It runs where nobody can see it.
        case connectionLost = "connection_lost"
        case fetchingOutputs = "fetching_outputs"
        case canceling
        /// It is run once more.
        case retrying
        case succeeded, failed, canceled, expired
    }

    let reason: Reason
    let message: String
    let details: JSONObject

    init(_ situation: JobSituation) {
        let (reason, message, details) = Self.judge(situation)
        var words = message
        var members = details
        if situation.returns > 0, !situation.status.isTerminal {
            let times = situation.returns == 1 ? "once" : "\(situation.returns) times"
            words += " It went back into the queue \(times)" + (situation.returnReason.map { ", the last time because: \($0)" } ?? ".")
            members["returns"] = JSON(situation.returns)
        }
        self.reason = reason
        self.message = words
        self.details = members
    }

    func representation(of job: JobID) -> JSON {
        ["job_id": .string(job.description), "reason": .string(reason.rawValue), "message": .string(message), "details": .object(details)]
    }

    private typealias Verdict = (Reason, String, JSONObject)

    private static func judge(_ situation: JobSituation) -> Verdict {
        switch situation.status {
        case .succeeded:
            let time = situation.execution.map { " after \(words($0)) of execution" } ?? ""
            return (.succeeded, "The job succeeded\(time), with \(count(situation.outputs, "output")).", ended(situation))
        case .failed: return (.failed, "The job failed. \(sentence(situation.error?.message ?? "No reason is known"))", ended(situation))
        case .canceled: return (.canceled, sentence(situation.error?.message ?? "The job was canceled"), ended(situation))
        case .expired: return (.expired, "The job expired.", ended(situation))
        case .canceling: return canceling(situation)
        case .queued, .running: break
        }
        guard let owner = situation.owner, let run = situation.comfyUIs[owner].runs.first(where: { $0.job == situation.job }) else { return waiting(situation) }
        return inside(situation, situation.comfyUIs[owner], run)
    }

    private static func ended(_ situation: JobSituation) -> JSONObject {
        var details: JSONObject = ["outputs": JSON(situation.outputs)]
        if let time = situation.execution { details["execution_ms"] = JSON(time.milliseconds) }
        if let error = situation.error {
            details["code"] = .string(error.code.rawValue)
            if let node = error.node { details["node_id"] = .string(node) }
            if let classType = error.classType { details["class_type"] = .string(classType) }
        }
        return details
    }

    private static func canceling(_ situation: JobSituation) -> Verdict {
        guard let owner = situation.owner else { return (.canceling, "The job is being canceled.", [:]) }
        let comfyUI = situation.comfyUIs[owner]
        var message = "The job is being canceled: it is taken out of \(comfyUI.url), which may first finish the step that it is at."
        if let away = comfyUI.away, away.isDisconnected { message = "The job is to be canceled, and \(comfyUI.url) cannot be reached for that: \(away.reason)." }
        return (.canceling, message, ["comfyui": .array([represent(comfyUI)])])
    }

    /// Not inside any ComfyUI.
    private static func waiting(_ situation: JobSituation) -> Verdict {
        var details: JSONObject = ["waiting_s": seconds(situation.age)]
        details["queue_position"] = .optional(situation.queuePosition)
        details["comfyui"] = .array(situation.comfyUIs.map(represent))
        let able = situation.comfyUIs.filter(\.canRun)
        if !able.isEmpty, able.allSatisfy({ $0.away != nil }) {
            let reasons = able.compactMap { comfyUI in comfyUI.away.map { "\(comfyUI.url)\(since($0)) (\($0.reason))" } }
            let owner = able.count == situation.comfyUIs.count ? "ComfyUI" : "ComfyUI that has the job's nodes"
            let which = situation.comfyUIs.count == 1 ? "ComfyUI cannot be used" : "No \(owner) can be used"
            return (.comfyUIUnreachable, "\(which): \(reasons.joined(separator: ", ")). The job runs when it is back.", details)
        }
        let busy = situation.comfyUIs.flatMap { comfyUI in comfyUI.runs.compactMap { $0.running == nil ? nil : (comfyUI.url, $0) } }
        let others = busy.isEmpty ? "" : " " + busy.map { "\($0) runs job \($1.job) for \(words($1.running ?? .zero))\(at($1.node))." }.joined(separator: " ")
        let reason: Reason = situation.returns > 0 ? .retrying : .queued
        switch situation.queuePosition {
        case nil: return (.handingOver, "The job is on its way from the queue to a ComfyUI.", details)
        case 0: return (reason, "The job is the next in the queue.\(others)", details)
        case let position?: return (reason, "The job waits in the queue behind \(count(position, "other")).\(others)", details)
        }
    }

    private static func inside(_ situation: JobSituation, _ comfyUI: JobSituation.ComfyUI, _ run: JobSituation.Run) -> Verdict {
        var details: JSONObject = ["comfyui": .array([represent(comfyUI)]), "silent_s": seconds(run.silence)]
        if let node = run.node { details["node"] = represent(node) }
        if let executed = situation.executed {
            details["fetching_s"] = seconds(executed)
            return (
                .fetchingOutputs, "\(comfyUI.url) is through with the job for \(words(executed)); its outputs are being looked up (\(situation.outputs) so far).",
                details
            )
        }
        if let away = comfyUI.away, away.isDisconnected {
            return (
                .connectionLost,
                "The job is inside \(comfyUI.url), which cannot be reached\(since(away)): \(away.reason). When it is back, its queue and history say how the job stands.",
                details
            )
        }
        if run.running == nil, !situation.isDelivered {
            let time = situation.taken.map { " for \(words($0))" } ?? ""
            return (.handingOver, "The job is being handed to \(comfyUI.url)\(time): its files are brought there, and ComfyUI checks the workflow.", details)
        }
        // ComfyUI says nothing about a prompt that waits: then it is the one before it that tells whether things move.
        if run.running == nil, let other = comfyUI.runs.first(where: { $0.job != run.job && $0.running != nil }) {
            return (
                .comfyUIBusy,
                "The job is the next in the queue of \(comfyUI.url), which is busy with job \(other.job) for \(words(other.running ?? .zero))\(at(other.node)).",
                details
            )
        }
        if run.running == nil, let behind = situation.behind {
            details["behind"] = ["prompt_id": .string(behind.promptID), "seen_s": seconds(behind.time)]
            return (
                .comfyUIBusy,
                "The job is in the queue of \(comfyUI.url), which runs the prompt \(behind.promptID), not one of the bridge's, for \(words(behind.time)) or longer.", details
            )
        }
        let place = run.running.map { "running for \(words($0))\(at(run.node))" } ?? "waiting inside ComfyUI"
        if run.silence >= situation.silenceLimit {
            return (
                .silent,
                "\(comfyUI.url) has sent no message about the job for \(words(run.silence)) (it was \(place)), so its queue and history are asked. "
                    + "A node that works for long without a progress bar looks like this.",
                details
            )
        }
        if let running = run.running {
            details["running_s"] = seconds(running)
            return (.running, "The job is \(place), on \(comfyUI.url).", details)
        }
        return (.comfyUIBusy, "The job is in the queue of \(comfyUI.url), which has not begun it yet; it may be busy with what others gave it.", details)
    }

    // MARK: Words and figures

    private static func at(_ node: JobSituation.Node?) -> String {
        guard let node else { return "" }
        let title = node.title.flatMap { $0 == node.classType ? nil : $0 }.map { " \"\($0)\"" } ?? ""
        let step = if let step = node.step, let steps = node.steps { ", step \(step) of \(steps)" } else { "" }
        return " at node \(node.id) (\(node.classType ?? "unknown class")\(title)) for \(words(node.running))\(step)"
    }

    private static func since(_ absence: JobSituation.Absence) -> String { absence.time.map { " for \(words($0))" } ?? "" }

    private static func sentence(_ text: String) -> String { text.unicodeScalars.last.map(".!?".unicodeScalars.contains) == true ? text : text + "." }

    private static func count(_ number: Int, _ noun: String) -> String { "\(number) \(noun)\(number == 1 ? "" : "s")" }

    private static func words(_ duration: Duration) -> String { duration.words }

    private static func seconds(_ duration: Duration) -> JSON { JSON(max(0, Double(duration.milliseconds) / 1000)) }

    private static func represent(_ comfyUI: JobSituation.ComfyUI) -> JSON {
        var members: JSONObject = ["url": .string(comfyUI.url), "available": .bool(comfyUI.away == nil)]
        if let away = comfyUI.away {
            if let time = away.time { members["unavailable_s"] = seconds(time) }
            members["unavailable_reason"] = .string(away.reason)
        }
        members["jobs"] = .array(
            comfyUI.runs.map { run in
                var entry: JSONObject = ["id": .string(run.job.description), "status": .string(run.status.rawValue)]
                entry["running_s"] = run.running.map(seconds) ?? .null
                if let node = run.node { entry["node"] = represent(node) }
                return .object(entry)
            })
        return .object(members)
    }

    private static func represent(_ node: JobSituation.Node) -> JSON {
        [
            "node_id": .string(node.id), "class_type": .optional(node.classType), "title": .optional(node.title), "running_s": seconds(node.running),
            "step": .optional(node.step), "steps": .optional(node.steps),
        ]
    }
}
