-- While there is no server, connections stay in the queue of the kernel: nobody accepts them. HAProxy by itself would
-- refuse them at once. How many are let in is a setting of the frontend that only HAProxy's own socket can change.
local frontend, backend, socket, pause_milliseconds = "entry", "traefik", "abns@front", 50
-- After that whoever waits is told what is wrong: by a Traefik that has no routes, as while the manager does not find its
-- engine, or by being refused. The latter is longer than a Traefik that is stopped may wait for its answers.
local without_routes, patience_without_routes = "present", 10000
local patience_milliseconds = 90000

-- tell COMMAND: whether HAProxy took it.
local function tell(command)
  local connection = core.tcp()
  connection:settimeout(1)
  if not connection:connect(socket) then return false end
  local taken = connection:send(command .. "\n") and connection:receive("*l") == ""
  connection:close()
  return taken
end

-- Those who waited have been let in when whoever comes has been let in for so long.
local rush_milliseconds = 1000

local limit, was_open, waited, waited_for_routes, open_for, known = nil, nil, 0, 0, 0, {}

-- A server that has just got an address counts as up without having been asked. It is down until a check says otherwise.
local function ask_first()
  for name, server in pairs(core.backends[backend].servers) do
    local has_address = not server:get_stats()["status"]:find("^MAINT")
    if has_address and not known[name] then server:check_force_down() end
    known[name] = has_address
  end
end

local function look()
  limit = limit or core.frontends[frontend]:get_stats()["slim"]
  ask_first()
  local is_served = core.backends[backend]:get_srv_act() > 0
  waited = is_served and 0 or waited + pause_milliseconds
  local is_there = core.backends[without_routes]:get_srv_act() > 0
  waited_for_routes = (is_served or not is_there) and 0 or waited_for_routes + pause_milliseconds
  open_for = was_open and open_for + pause_milliseconds or 0
  local is_open = is_served or waited > patience_milliseconds or waited_for_routes > patience_without_routes
  if is_open == was_open or not tell("set maxconn frontend " .. frontend .. " " .. (is_open and limit or 0)) then return end
  was_open = is_open
  core.Warning(is_served and "Traefik answers: whoever comes is let in"
    or is_open and "no Traefik has routes: nobody is kept waiting any longer"
    or "no Traefik has routes: whoever comes waits")
end

-- Whether a connection is not one of those who waited, or its client has stayed, or says more than fits.
core.register_fetches("may_pass", function(connection)
  if open_for >= rush_milliseconds or connection.f:req_len() > 8000 then return true end
  local now = core.now()
  local milliseconds = now.sec * 1000 + now.usec / 1000
  local first_seen = connection:get_priv()
  if not first_seen then connection:set_priv(milliseconds) end
  return first_seen ~= nil and milliseconds - first_seen >= 10
end)

core.register_task(function()
  while true do
    local is_done, problem = pcall(look)
    if not is_done then core.Alert("hold.lua: " .. tostring(problem)) end
    core.msleep(pause_milliseconds)
  end
end)
