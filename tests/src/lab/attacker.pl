# What an attacker inside a container runs: it evaluates the code that the test sends, and says what came of it. Only
# what every Debian's perl-base has is used. Everything happens in this process: with its user, its capabilities, its
# cgroup and its network namespace.
use strict;
use warnings;
use Socket qw(:all);
use POSIX ();

our %keep;    # what lives longer than one request: sockets above all
our %number = do {
    my (undef, undef, undef, undef, $machine) = POSIX::uname();
    # The newer calls have one number everywhere.
    my %common = (pidfd_open => 434, clone3 => 435, pidfd_getfd => 438, io_uring_setup => 425, io_uring_enter => 426);
    my %x86 = (splice => 275, sendfile => 40, memfd_create => 319, bpf => 321, sendmsg => 46, recvmsg => 47, read => 0, mmap => 9, prctl => 157, unshare => 272, setns => 308, capset => 126, close => 3);
    my %arm = (splice => 76, sendfile => 71, memfd_create => 279, bpf => 280, sendmsg => 211, recvmsg => 212, read => 63, mmap => 222, prctl => 167, unshare => 97, setns => 268, capset => 91, close => 57);
    (%common, $machine eq 'x86_64' ? %x86 : %arm);
};

# A system call; dies with the error's number.
sub call {
    # The kernel may write into an argument: it must not be a copy.
    my $name = shift;
    my $result = syscall($number{$name}, @_);
    fail($name) if $result == -1;
    return $result;
}

# Ends the request with the system's error.
sub fail { my ($what) = @_; die sprintf("errno %d: %s: %s\n", $! + 0, $what, $!) }

sub address {
    my ($address, $port, $scope) = @_;
    return $address =~ /:/
        ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address), $scope // 0, 0)
        : pack_sockaddr_in($port, inet_pton(AF_INET, $address));
}

sub family { return $_[0] =~ /:/ ? AF_INET6 : AF_INET }

sub made {
    my ($family, $type, $protocol) = @_;
    socket(my $socket, $family, $type, $protocol // 0) or fail("socket($family, $type, " . ($protocol // 0) . ')');
    return $socket;
}

# A socket of a type, bound where one wants it.
sub bound {
    my ($type, $address, $port, %with) = @_;
    my $socket = made(family($address), $type, $with{protocol});
    for my $option (@{ $with{options} // [] }) {
        my ($level, $name, $value) = @$option;
        setsockopt($socket, $level, $name, $value) or fail("option $level/$name");
    }
    bind($socket, address($address, $port, $with{scope})) or fail("bind $address $port");
    return $socket;
}

sub option {
    my ($socket, $level, $name, $value) = @_;
    setsockopt($socket, $level, $name, $value) or fail("option $level/$name");
}

# Sends one datagram or packet.
sub throw {
    my ($socket, $data, $address, $port, $scope) = @_;
    defined(send($socket, $data, MSG_NOSIGNAL, address($address, $port, $scope))) or fail("send to $address $port");
    return 'sent';
}

# Sends whole IP packets, given in hexadecimal, through a raw socket.
sub whole {
    my ($address, $packet, %with) = @_;
    my $socket = made(family($address), SOCK_RAW, 255);
    option($socket, @$_) for @{ $with{options} // [] };
    throw($socket, $_, $address, 0) for map { pack('H*', $_) } split(/,/, $packet);
    return 'sent';
}

# Connects and sends; gives up after a moment.
sub dial {
    my ($socket, $data, $address, $port) = @_;
    my $flags = fcntl($socket, 3, 0);
    fcntl($socket, 4, $flags | 2048) or fail('fcntl');
    if (!connect($socket, address($address, $port))) {
        fail("connect $address $port") unless $!{EINPROGRESS};
        my $set = '';
        vec($set, fileno($socket), 1) = 1;
        select(undef, $set, undef, 3) or die "nothing answers\n";
        my $error = unpack('i', getsockopt($socket, SOL_SOCKET, SO_ERROR));
        $! = $error, fail("connect $address $port") if $error;
    }
    defined(send($socket, $data, MSG_NOSIGNAL)) or fail('send');
    return 'sent';
}

# What is waiting at a socket; none where nothing is.
sub waiting {
    my ($socket) = @_;
    defined(recv($socket, my $data, 65536, MSG_DONTWAIT)) or return 'none';
    return "got $data";
}

# A control message.
sub control { my ($level, $type, $value) = @_; return pack('Q i i', 16 + length($value), $level, $type) . $value }

# sendmsg with a control message.
sub message {
    my ($socket, $data, $to, $control, $flags) = @_;
    my $vector = pack('P Q', $data, length $data);
    $control .= "\0" x (-length($control) % 8);
    my $header = pack('P L x4 P Q P Q i x4', $to, length $to, $vector, 1, $control, length $control, 0);
    $header = pack('Q', 0) . substr($header, 8) if $to eq '';
    return call('sendmsg', fileno($socket), $header, $flags // 0);
}

# Hands a descriptor over a UNIX socket.
sub hand { my ($socket, $fd) = @_; return message($socket, 'x', '', control(SOL_SOCKET, SCM_RIGHTS, pack('i', $fd))) }

# Takes a descriptor from a UNIX socket.
sub take {
    my ($socket) = @_;
    my ($data, $control) = ("\0" x 16, "\0" x 64);
    my $vector = pack('P Q', $data, 16);
    my $header = pack('Q L x4 P Q P Q i x4', 0, 0, $vector, 1, $control, 64, 0);
    call('recvmsg', fileno($socket), $header, 0);
    my ($length, $level, $type, $fd) = unpack('Q i i i', $control);
    die "no descriptor came\n" unless $length == 20;
    open(my $taken, '+<&=', $fd) or fail('fdopen');
    return $taken;
}

# An io_uring; `flags` may ask for a kernel thread that submits. Gives a function that carries out one operation.
sub ring {
    my ($flags, $each) = @_;
    my $parameters = pack('L5 x100', 0, 0, $flags, 0, 1000);
    my $ring = call('io_uring_setup', 4, $parameters);
    my @parameters = unpack('L30', $parameters);
    my ($tail, $mask, $array) = @parameters[11, 12, 16];
    my ($cq_head, $cq_tail, $cq_mask, $cqes) = @parameters[20, 21, 22, 25];
    my $queues = call('mmap', 0, 4096, 3, 0x8001, $ring, 0);
    my $entries = call('mmap', 0, 4096, 3, 0x8001, $ring, 0x10000000);
    pipe(my $out, my $in) or fail('pipe');
    my $read = sub { my ($at, $count) = @_; return unpack("P$count", pack('Q', $at)) };
    my $write = sub { my ($at, $data) = @_; syswrite($in, $data); call('read', fileno($out), $at + 0, length $data) };
    return sub {
        my ($operation, $fd, $offset, $pointer, $length, $file) = @_;
        my $entry = pack('C C S i Q Q L L Q S S L Q Q', $operation, $each, 0, $fd, $offset, $pointer, $length, 0, 7, 0, 0, 0, 0, 0);
        $write->($entries, $entry);
        my $now = unpack('L', $read->($queues + $tail, 4));
        my $place = $now & unpack('L', $read->($queues + $mask, 4));
        $write->($queues + $array + 4 * $place, pack('L', 0));
        $write->($queues + $tail, pack('L', $now + 1));
        # One is to be submitted and waited for; a sleeping thread is woken.
        call('io_uring_enter', $ring, 1, 1, 3, 0, 0);
        my $head = unpack('L', $read->($queues + $cq_head, 4));
        my $deadline = time + 5;
        while (unpack('L', $read->($queues + $cq_tail, 4)) == $head) { die "no completion\n" if time > $deadline }
        my $slot = $head & unpack('L', $read->($queues + $cq_mask, 4));
        my (undef, $result) = unpack('Q l', $read->($queues + $cqes + 16 * $slot, 16));
        $write->($queues + $cq_head, pack('L', $head + 1));
        $! = -$result, fail("operation $operation") if $result < 0;
        return $result;
    };
}

binmode STDIN;
binmode STDOUT;
$| = 1;
while (defined(my $length = <STDIN>)) {
    chomp $length;
    read(STDIN, my $code, $length) == $length or last;
    local $SIG{ALRM} = sub { die "the attack takes too long\n" };
    alarm 20;
    my $result = eval "no strict 'vars'; $code";
    my $died = $@;
    alarm 0;
    my $answer = $died ne '' ? "failed $died" : 'done ' . ($result // '');
    print length($answer) . "\n$answer";
}
