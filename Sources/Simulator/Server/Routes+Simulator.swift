import NIOHTTP1
import OrderedCollections
import OrderedJSON

/// The control endpoint, which no ComfyUI has: what is to go wrong, and what happened so far.
extension Router {
    static let simulatorRoutes: [Route] = [
        Route(.GET, "/simulator/faults", mirrored: false) { router, _, _ in .json(router.faultList) },
        Route(.POST, "/simulator/faults", mirrored: false) { router, request, _ in
            do {
                try router.order(request)
            } catch {
                return .json(["error": .string("\(error)")], status: .badRequest)
            }
            return .json(router.faultList)
        },
        Route(.DELETE, "/simulator/faults", mirrored: false) { router, _, _ in
            router.services.faults.switches.clear()
            return .json(router.faultList)
        },
        Route(.GET, "/simulator/statistics", mirrored: false) { router, _, _ in .json(router.statistics) },
    ]

    private var faultList: JSON {
        let switches = services.faults.switches
        let armed = switches.armed.map { armed -> JSON in
            let order = armed.order
            return [
                "fault": .string(order.fault.kind.rawValue), "value": .optional(order.fault.valueText),
                "only": .optional(order.only ?? order.fault.kind.defaultFilter), "times_left": .optional(armed.timesLeft),
                "probability": JSON(order.probability), "fired": JSON(armed.fired),
            ]
        }
        return ["armed": .array(armed), "fired": Self.fired(switches)]
    }

    private var statistics: JSON {
        let tally = services.faults.tally
        let prompts = tally.prompts.sorted { $0.key < $1.key }.map { ($0.key, $0.value.json) }
        return [
            "prompts": .object(JSONObject(uniqueKeysWithValues: prompts)), "frames_sent": JSON(tally.framesSent),
            "fired": Self.fired(services.faults.switches),
        ]
    }

    private static func fired(_ switches: FaultSwitches) -> JSON {
        let fired = switches.fired
        return .object(
            JSONObject(uniqueKeysWithValues: Fault.Kind.allCases.compactMap { kind in fired[kind].map { (kind.rawValue, JSON($0)) } }))
    }

    /// One order or action, or a list of them; all or none are carried out.
    private func order(_ request: Request) throws {
        guard let body = request.json else { throw FaultOrder.SyntaxError("The body must be JSON.") }
        let items = body.array ?? [body]
        let orders = try items.filter { $0["action"] == nil }.map { try FaultOrder($0) }
        let actions = try items.filter { $0["action"] != nil }.map { try ComfySimulator.Action($0) }
        for action in actions {
            if case .restart(_, keepsFiles: false) = action, configuration.directory != nil {
                throw FaultOrder.SyntaxError("The files of the folder given with --directory are kept; leave keep_files out.")
            }
        }
        for order in orders { services.faults.switches.arm(order) }
        for action in actions { _ = services.faults.perform(action) }
    }
}

extension ComfySimulator.PromptCounts {
    fileprivate var json: JSON {
        [
            "accepted": JSON(accepted), "started": JSON(started), "finished": JSON(finished), "removed": JSON(removed), "lost": JSON(lost),
            "forgotten": JSON(forgotten),
        ]
    }
}
