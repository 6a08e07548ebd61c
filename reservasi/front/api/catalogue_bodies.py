"""Programs and offices as shown to the public."""

from reservasi.front.api import bodies
from reservasi.programs import Office, Program, Text


def program_body(program: Program) -> bodies.ProgramBody:
    """A program as shown to the public."""
    return bodies.ProgramBody(
        id=program.id,
        name=_text(program.name),
        timezone=program.timezone,
        demo=program.demo,
        applicants_max=program.policies.applicants_max,
        hold_s=program.policies.hold_s,
        services=[bodies.NamedBody(id=service.id, name=_text(service.name)) for service in program.services],
        channels=[
            bodies.ChannelBody(id=channel.id, name=_text(channel.name), public=channel.public)
            for channel in program.channels
        ],
    )


def office_body(program: Program, office: Office) -> bodies.OfficeBody:
    """An office as shown to the public."""
    weekdays = office.hours.__struct_fields__
    hours = {day: getattr(office.hours, day) for day in weekdays if getattr(office.hours, day) is not None}
    return bodies.OfficeBody(
        id=office.id,
        program=program.id,
        name=_text(office.name),
        address=office.address,
        kind=office.kind.value,
        services=list(office.services),
        hours=hours,
        latitude=office.latitude,
        longitude=office.longitude,
    )


def _text(text: Text) -> bodies.TextBody:
    return bodies.TextBody(id=text.id, en=text.en)
