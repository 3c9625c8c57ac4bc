// Everything the page says, in every language it speaks. An entry is text, or a function that makes text of what it is
// given. say() remembers what an element says, so that all of them can be said again in another language.

// Names are put between isolates: a name in a right-to-left script must not turn the sentence around.
const isolated = (name) => `\u2068${name}\u2069`;

const isChinese = (language) => language.toLowerCase().startsWith("zh");

function englishNames({ names, count }) {
  const rest = count - names.length;
  const all = names.map(isolated);
  if (rest > 0) all.push(rest === 1 ? "1 other" : `${rest.toLocaleString("en")} others`);
  return all.length < 2 ? all.join("") : `${all.slice(0, -1).join(", ")} and ${all.at(-1)}`;
}

function chineseNames({ names, count }) {
  const shown = names.map(isolated).join("、");
  return count > names.length ? `${shown} 等 ${count.toLocaleString("zh")} 人` : shown;
}

// later says when to try again: as exactly as the server has told it, in seconds.
function later(language, { wait }, otherwise) {
  if (!(wait > 0)) return otherwise;
  const [count, unit] = wait < 90 ? [wait, "second"] : wait < 90 * 60 ? [wait / 60, "minute"] : [wait / 3600, "hour"];
  return new Intl.RelativeTimeFormat(language).format(Math.ceil(count), unit);
}

const LANGUAGES = {
  en: {
    title: "Chat",
    joinHint: "Choose a name and a room. Everyone in the same room can talk to each other.",
    name: "Your name",
    room: "Room",
    join: "Join",
    joining: "Joining…",
    otherLanguage: "中文",
    leave: "Leave",
    switchRoom: "Switch room",
    switch: "Switch",
    cancel: "Cancel",
    close: "Close",
    here: "Here now",
    people: "People",
    peopleHint: "People in this room. Choose one to write a private message.",
    find: "Find a person",
    manyHere: "So many are here that not everyone may be listed.",
    more: "Show more",
    refresh: "Refresh",
    notListed: "The list has changed. Please try again.",
    you: "you",
    messages: "Messages",
    message: "Message",
    placeholder: "Write a message",
    send: "Send",
    everyone: "Write to everyone again",
    privateTo: ({ name }) => `Private to ${isolated(name)}`,
    privateFrom: () => "Private, to you",
    notifications: "Pop-ups",
    sound: "Sound",
    notificationsDenied: "The browser does not allow pop-ups for this page. You can change that in its settings.",
    notificationsInsecure: "Browsers show pop-ups only for pages opened with https. Title and sound tell you instead.",
    connected: "Connected",
    offline: "Offline",
    lost: "The connection is lost. Trying again…",
    nameHeld: "The connection is back, but your name is still taken. Trying again…",
    tryNow: "Try now",
    replaced: "This chat goes on in another tab or window.",
    useHere: "Use it here",
    kicked: ({ reason }) => `You were removed: ${isolated(reason)}`,
    joinAgain: "Join again",
    back: "You are back. What was said meanwhile is not shown here.",
    away: "You were away",
    awayGap: "You were away. Some of what was said meanwhile may be missing",
    unread: "New",
    came: (who) => `${englishNames(who)} joined`,
    left: (who) => `${englishNames(who)} left`,
    entered: ({ room }) => `You are in ${isolated(room)}`,
    newer: ({ count }) => (count === 1 ? "1 new message" : `${count.toLocaleString("en")} new messages`),
    nameMissing: "Please choose a name.",
    roomMissing: "Please choose a room.",
    nameStar: "A name cannot contain * or control characters.",
    roomStar: "A room cannot contain * or control characters.",
    nameLong: "This name is too long. It may have 64 Latin letters, or 21 Chinese characters.",
    roomLong: "This room name is too long. It may have 64 Latin letters, or 21 Chinese characters.",
    nameTaken: ({ name, room }) => `Somebody is called ${isolated(name)} in ${isolated(room)} already. Please choose another name.`,
    sameRoom: "You are in this room already.",
    nameLost: "Somebody else has taken your name in the meantime. Please choose another one.",
    unreachable: "The server cannot be reached. Please try again in a moment.",
    refused: "The server refuses the connection. Please try again in a moment.",
    roomFull: ({ room }) => `${isolated(room)} is full. Please choose another room, or try again later.`,
    roomsFull: ({ room }) => `The server has no space for a new room, and there is no ${isolated(room)} yet. Please choose a room where people are.`,
    serverFull: "The server has no memory left for anybody new. Please try again in a minute.",
    tooFast: "That was too much at once. Please wait a second, then try again.",
    enterTooFast: (answer) => `You have entered rooms too often. Please try again ${later("en", answer, "in a minute")}.`,
    slowMode: (answer) => `Slow mode: between two messages everybody here has to wait. Please send yours ${later("en", answer, "a little later")}.`,
    nameUnfit: "This name has characters that are not shown, or that turn the text around. Please choose another one.",
    nameAlike: ({ name, room }) => `In ${isolated(room)} somebody's name looks like ${isolated(name)}. Please choose another name.`,
    nameReserved: ({ name }) => `Nobody may be called ${isolated(name)} here. Please choose another name.`,
    banned: "You are banned here.",
    muted: "You may not write here at present.",
    notWritten: "The server cannot store messages at the moment. Please try again in a little while.",
    locked: ({ room }) => `${isolated(room)} is locked: nobody can enter at the moment.`,
    login: "This server lets in only those who have logged in. Please log in where you got the address of this chat, and come back.",
    logIn: "Log in",
    loginExpired: "Your login has expired.",
    sessions: "You are in this chat already, in another window or on another device. Please leave it there, then try again.",
    otherReason: ({ reason }) => `The server says no. Its reason: ${isolated(reason)}`,
    noReason: ({ code }) => `The server says no, with code ${isolated(code)} and no reason. Please try again in a moment.`,
    textLong: ({ max }) => `This is too long: a message may have ${max.toLocaleString("en")} characters. Please shorten it.`,
    sendNow: "The connection is back. Press Enter to send your message.",
    sendAgain: "The connection is back. If your message is not above, press Enter to send it again.",
    gone: ({ name }) => `${isolated(name)} is not here any more; the message was not sent.`,
    notSent: "The server did not take the message. Please try again.",
    unsure: "The connection broke; perhaps the message did not arrive.",
    waitForConnection: "There is no connection at the moment. Your message can be sent when it is back.",
  },
  zh: {
    title: "聊天室",
    joinHint: "取一个名字，选一个房间。同一房间里的人可以互相交谈。",
    name: "你的名字",
    room: "房间",
    join: "进入",
    joining: "正在进入…",
    otherLanguage: "English",
    leave: "离开",
    switchRoom: "切换房间",
    switch: "切换",
    cancel: "取消",
    close: "关闭",
    here: "在场",
    people: "成员",
    peopleHint: "房间里的人。选择一人即可发送私信。",
    find: "查找成员",
    manyHere: "人数众多，名单可能不全。",
    more: "显示更多",
    refresh: "刷新",
    notListed: "名单有变化，请重试。",
    you: "我",
    messages: "消息",
    message: "消息",
    placeholder: "写点什么",
    send: "发送",
    everyone: "改为发给所有人",
    privateTo: ({ name }) => `私信给 ${isolated(name)}`,
    privateFrom: () => "给你的私信",
    notifications: "弹窗提醒",
    sound: "声音",
    notificationsDenied: "浏览器不允许本页面弹窗提醒，可在浏览器设置中更改。",
    notificationsInsecure: "浏览器只允许通过 https 打开的页面弹窗；本页面将用标题和声音提醒你。",
    connected: "已连接",
    offline: "未连接",
    lost: "连接已断开，正在重试…",
    nameHeld: "连接已恢复，但你的名字仍被占用，正在重试…",
    tryNow: "立即重试",
    replaced: "聊天已在另一个标签页或窗口中继续。",
    useHere: "在此继续",
    kicked: ({ reason }) => `你已被移出：${isolated(reason)}`,
    joinAgain: "重新进入",
    back: "你回来了。断线期间的消息不会显示。",
    away: "你离开了一会儿",
    awayGap: "你离开了一会儿，期间的消息可能不全",
    unread: "新消息",
    came: (who) => `${chineseNames(who)} 进来了`,
    left: (who) => `${chineseNames(who)} 离开了`,
    entered: ({ room }) => `你在房间 ${isolated(room)}`,
    newer: ({ count }) => `${count.toLocaleString("zh")} 条新消息`,
    nameMissing: "请取一个名字。",
    roomMissing: "请选一个房间。",
    nameStar: "名字不能包含 * 或控制字符。",
    roomStar: "房间名不能包含 * 或控制字符。",
    nameLong: "名字太长了，最多 21 个汉字或 64 个英文字母。",
    roomLong: "房间名太长了，最多 21 个汉字或 64 个英文字母。",
    nameTaken: ({ name, room }) => `${isolated(room)} 里已经有人叫 ${isolated(name)}，请换一个名字。`,
    sameRoom: "你已经在这个房间里了。",
    nameLost: "你的名字已被别人使用，请换一个。",
    unreachable: "无法连接服务器，请稍后再试。",
    refused: "服务器拒绝了连接，请稍后再试。",
    roomFull: ({ room }) => `房间 ${isolated(room)} 已满，请换一个房间，或稍后再试。`,
    roomsFull: ({ room }) => `服务器不能再开新房间，而 ${isolated(room)} 还不存在。请选择一个已经有人的房间。`,
    serverFull: "服务器内存不足，暂时不能接纳新成员，请一分钟后再试。",
    tooFast: "操作太频繁了，请等一秒再试。",
    enterTooFast: (answer) => `进入房间太频繁了，请${later("zh", answer, "一分钟后")}再试。`,
    slowMode: (answer) => `慢速模式：这里每个人发言之间都要间隔一段时间，请${later("zh", answer, "稍后")}再发送。`,
    nameUnfit: "名字里有不可见或会改变文字方向的字符，请换一个。",
    nameAlike: ({ name, room }) => `${isolated(room)} 里有人的名字与 ${isolated(name)} 相似，请换一个名字。`,
    nameReserved: ({ name }) => `这里不能使用 ${isolated(name)} 这个名字，请换一个。`,
    banned: "你已被禁止进入这里。",
    muted: "你目前被禁言。",
    notWritten: "服务器暂时无法保存消息，请稍后再试。",
    locked: ({ room }) => `房间 ${isolated(room)} 已锁定，目前无法进入。`,
    login: "登录后才能进入这个服务器。请到你得到本聊天地址的地方登录，然后再回来。",
    logIn: "登录",
    loginExpired: "你的登录已过期。",
    sessions: "你已经在别的窗口或设备上进入了聊天。请先在那里离开，然后再试。",
    otherReason: ({ reason }) => `服务器拒绝了，原因是：${isolated(reason)}`,
    noReason: ({ code }) => `服务器拒绝了，代码 ${isolated(code)}，没有说明原因。请稍后再试。`,
    textLong: ({ max }) => `太长了：一条消息最多 ${max.toLocaleString("zh")} 个字符，请缩短后再发。`,
    sendNow: "连接已恢复，按回车键发送你的消息。",
    sendAgain: "连接已恢复。如果上面没有你的消息，请按回车键重新发送。",
    gone: ({ name }) => `${isolated(name)} 已不在房间里，消息没有发出。`,
    notSent: "服务器没有接受这条消息，请重试。",
    unsure: "连接中断，消息可能没有送达。",
    waitForConnection: "目前没有连接，恢复后即可发送。",
  },
};

let language = "en";
const said = new WeakMap(); // element → what its text is made of

export function t(key, given) {
  const entry = LANGUAGES[language][key];
  return typeof entry === "function" ? entry(given) : entry;
}

/** Sets an element's text, and keeps it true when the language changes. Without a key the element says nothing. */
export function say(element, key, given) {
  if (key) element.dataset.t = key;
  else delete element.dataset.t;
  said.set(element, given);
  element.textContent = key ? t(key, given) : "";
}

export const currentLanguage = () => language;
export const preferredLanguage = () => (isChinese(navigator.language) ? "zh" : "en");
export const nextLanguage = () => (language === "en" ? "zh" : "en");

export function setLanguage(next) {
  language = next in LANGUAGES ? next : "en";
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t, said.get(element));
  for (const element of document.querySelectorAll("[data-t-placeholder]")) element.placeholder = t(element.dataset.tPlaceholder);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
    if (element.matches("button")) element.title = t(element.dataset.tLabel);
  }
}

const DATES = {
  clock: { timeStyle: "short" },
  moment: { dateStyle: "full", timeStyle: "medium" },
  day: { weekday: "long", day: "numeric", month: "long" },
};
const formats = new Map(); // making one takes longer than a whole message

/** Writes a time as clock, moment or day, in the user's own locale as long as the page speaks their language. */
export function when(kind, time) {
  const locale = isChinese(navigator.language) === (language === "zh") ? navigator.language : language;
  const key = `${kind} ${locale}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale, DATES[kind]));
  return formats.get(key).format(time);
}
